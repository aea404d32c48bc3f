"""A confirmed variant whose answers turn bad in the field, from its client to the host's records."""

import http.client
import json
import socket
from dataclasses import replace

from edgepick_agent.core import places
from edgepick_agent.core.answers import MOST_BAD_ANSWERS
from edgepick_wire import topics
from edgepick_wire.manifest import ModelFormat, RuntimeChoice, RuntimeName
from edgepick_wire.messages import IncidentCode, Phase
from fakes.host_stand_in import entry
from fakes.runtime_models import onnx_logarithm
from integration.forger import Forger
from integration.whole_system import DEADLINE_SECONDS, FLEET, MODEL, Device, until


def published(forger: Forger) -> str:
    """Publish a logarithm as a version of the model, without golden inputs; return its manifest."""
    file, chunks = entry("model.onnx", onnx_logarithm())
    for digest, data in chunks.items():
        forger.put(topics.chunk(FLEET, digest), data)
    return forger.manifest(
        replace(
            forger.template(),
            version="logarithm",
            variant="float32",
            format=ModelFormat.ONNX,
            runtimes=(RuntimeChoice(name=RuntimeName.ONNXRUNTIME),),
            model_file=file.name,
            files=(file,),
            golden=None,
            requires=(),
        )
    )


def logarithm_of(device: Device, number: float) -> tuple[int, dict]:
    """Return what a client gets; 503 while nobody listens, as behind any proxy."""
    asked = {"name": "a", "shape": [1, 4], "datatype": "FP32", "data": [number] * 4}
    connection = http.client.HTTPConnection("localhost", timeout=DEADLINE_SECONDS)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(str(device.state / places.model_socket(MODEL)))
        connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps({"inputs": [asked]}))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except (OSError, http.client.HTTPException):
        return 503, {}
    finally:
        connection.close()


def test_a_confirmed_variant_that_answers_nan_is_left_for_the_one_before_it(serving):
    """Its clients get errors and no tensor; the host hears why, and the variant before it serves again."""
    host, device = serving
    before, forger = device.active(), Forger(host, device)
    manifest = published(forger)
    forger.want(manifest)
    until(lambda: device.confirmed(manifest), "confirmed")
    good = logarithm_of(device, 1.0)

    bad = []
    until(
        lambda: bad.append(logarithm_of(device, -1.0)) or device.active() == before, "the variant before it is active"
    )
    until(device.runner, "it serves")
    incidents = until(
        lambda: (
            (told := [i for i in host.incidents(device.name) if i.manifest == manifest])
            and told[-1].code is IncidentCode.FELL_BACK
            and told
        ),
        "the host is told",
    )
    forger.close()

    assert (good[0], good[1]["outputs"][0]["data"]) == (200, [0, 0, 0, 0])
    assert {status for status, _ in bad} <= {400, 500, 503}
    assert sum(said == {"error": "output b holds NaN or infinity"} for _, said in bad) >= 2 * MOST_BAD_ANSWERS
    assert [i.code for i in incidents[:2]] == [IncidentCode.RUNNER_BAD_ANSWERS, IncidentCode.RUNNER_RESTARTED]
    assert "5 answers in a row were bad: output b holds NaN" in incidents[0].detail
    assert IncidentCode.RUNNER_BAD_ANSWERS in incidents[-1].detail
    assert device.model().phase is Phase.REVERTED
    assert device.answers() >= 0.75
