/* Made by edgepick $version from the variant $variant of the model $name. Do not edit. */
/* A program without tflite-micro: shows that the data came through the compiler and the linker as they should.
 * Returns 0 if they did. */
#include <stddef.h>
#include <stdint.h>

#include "${prefix}_golden.h"
#include "${prefix}_model.h"

static uint32_t adler32(const unsigned char *data, size_t size) {
  uint32_t a = 1, b = 0;
  for (size_t i = 0; i < size; ++i) {
    a = (a + data[i]) % 65521u;
    b = (b + a) % 65521u;
  }
  return b << 16 | a;
}

int main(void) {
  int failures = 0;
  /* A .tflite file has its identifier at byte 4. */
  failures += ${prefix}_model[4] != 'T' || ${prefix}_model[5] != 'F';
  failures += ${prefix}_model[6] != 'L' || ${prefix}_model[7] != '3';
  failures += (uintptr_t)${prefix}_model % 16 != 0;
  failures += adler32(${prefix}_model, ${PREFIX}_MODEL_BYTES) != ${PREFIX}_MODEL_ADLER32;
  for (size_t sample = 0; sample < ${PREFIX}_GOLDEN_SAMPLES; ++sample) {
${self_checks}
  }
  return failures;
}
