"""A bundle as one file, for a USB stick: a tar with the signed manifest first, then its files.

    manifest.signed      the envelope, exactly as it travels
    root.signed          optional: the newest root document of the fleet
    root-<N>.signed      optional: each of its versions from 2 to the newest, in this order
    files/<name>         each file of the manifest, in the manifest's order

Plain ``ustar`` without compression (models are compressed poorly or already), regular files only.
"""

MANIFEST_MEMBER = "manifest.signed"
ROOT_MEMBER = "root.signed"
ROOT_VERSION_MEMBER = "root-{version}.signed"
ROOT_VERSIONS_MAX = 256
"""Versions of the root document that a bundle may carry."""
FILES_PREFIX = "files/"
SUFFIX = ".edgepick"
