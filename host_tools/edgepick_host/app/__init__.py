"""The composition root of the host, and what its commands call.

``composition`` is the only module that picks adapters; the others are one use case each. Every
function returns a value; printing is the command line's business.
"""

from edgepick_host.app.access import add_token, revoke_token, tokens
from edgepick_host.app.composition import (
    broker_of,
    clock,
    connect_broker,
    load,
    open_store,
    sign_document,
    signer,
    store_of,
    verify_signature,
)
from edgepick_host.app.compression import compress_model, compression_pass, export_c, read_search
from edgepick_host.app.devices import history, live_roster, roster
from edgepick_host.app.publishing import (
    build_bundle,
    inspect_bundle,
    prepare_folder,
    prune,
    publish,
    publish_prepared,
    verify_bundle,
)
from edgepick_host.app.retention import prune_reports
from edgepick_host.app.rollout_service import (
    ask_rollout,
    budgets_of,
    coordinator_at_work,
    coordinator_of,
    decision_records,
    evidence_gone,
    explain_rollout,
    follow_rollout,
    new_rollout_id,
    preview_rollout,
    replay_decisions,
    rollout,
    rollouts,
    serve,
    start_rollout,
)
from edgepick_host.app.shadowing import shadow_reports, start_shadow, stop_shadow
from edgepick_host.app.trust import create_keys, publish_keys, read_root, revoke_key, rotate_keys, show_keys, sign_root

__all__ = [
    "add_token",
    "ask_rollout",
    "broker_of",
    "budgets_of",
    "build_bundle",
    "clock",
    "compress_model",
    "compression_pass",
    "connect_broker",
    "coordinator_at_work",
    "coordinator_of",
    "create_keys",
    "decision_records",
    "evidence_gone",
    "explain_rollout",
    "export_c",
    "follow_rollout",
    "history",
    "inspect_bundle",
    "live_roster",
    "load",
    "new_rollout_id",
    "open_store",
    "prepare_folder",
    "preview_rollout",
    "prune",
    "prune_reports",
    "publish",
    "publish_keys",
    "publish_prepared",
    "read_root",
    "read_search",
    "replay_decisions",
    "revoke_key",
    "revoke_token",
    "rollout",
    "rollouts",
    "roster",
    "rotate_keys",
    "serve",
    "shadow_reports",
    "show_keys",
    "sign_document",
    "sign_root",
    "signer",
    "start_rollout",
    "start_shadow",
    "stop_shadow",
    "store_of",
    "tokens",
    "verify_bundle",
    "verify_signature",
]
