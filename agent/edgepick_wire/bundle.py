"""A bundle as one file, for a USB stick: a tar with the signed manifest first, then its files.

    manifest.signed      the envelope, exactly as it travels
    root.signed          optional: the root document of the fleet
    files/<name>         each file of the manifest, in the manifest's order

Plain ``ustar`` without compression (models are compressed poorly or already), regular files only.
"""

MANIFEST_MEMBER = "manifest.signed"
ROOT_MEMBER = "root.signed"
FILES_PREFIX = "files/"
SUFFIX = ".edgepick"
