/* Made by edgepick $version from the variant $variant of the model $name. Do not edit. */
#ifndef ${PREFIX}_MODEL_H
#define ${PREFIX}_MODEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The .tflite file, aligned to 16 bytes: tflite-micro reads it where it lies, in flash. */
#define ${PREFIX}_MODEL_BYTES ${model_bytes}
#define ${PREFIX}_MODEL_SHA256 "${sha256}"
#define ${PREFIX}_MODEL_ADLER32 0x${adler32}u
extern const unsigned char ${prefix}_model[${PREFIX}_MODEL_BYTES];

/* The tensor arena. Measured on a 64-bit host with the reference kernels: the smallest that the model ran in, of
 * which ${head_bytes} bytes hold tensors in turn and ${tail_bytes} stay for good.
${peak_lines}
 * Reserve the second figure, ${arena_margin} more: optimised kernels (CMSIS-NN, ESP-NN) ask for scratch buffers of
 * their own. On the device, interpreter.arena_used_bytes() tells what it really is. */
#define ${PREFIX}_ARENA_MEASURED_BYTES ${arena_bytes}
#define ${PREFIX}_ARENA_BYTES ${arena_with_margin}

/* Inputs and outputs: real value = (value - ZERO_POINT) * SCALE. */
${tensors}

#ifdef __cplusplus
}
#endif

#endif
