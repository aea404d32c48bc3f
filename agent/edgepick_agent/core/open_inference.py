"""What both sides of the Open Inference Protocol have to name alike: types of numbers, a header, and who answers."""

HEADER_LENGTH = "Inference-Header-Content-Length"
"""HTTP header of the binary tensor extension: where the JSON ends and the tensors begin."""

SERVER_NAME = "edgepick-agent"
"""Who answers."""

TYPES = {"BOOL": "?", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"} | {
    f"{sign}INT{8 * size}": f"<{kind}{size}" for sign, kind in (("", "i"), ("U", "u")) for size in (1, 2, 4, 8)
}
"""The protocol's name of a type -> numpy's code of it, in the order of bytes in which it travels."""
