/* Made by edgepick $version from the variant $variant of the model $name. Do not edit. */
#ifndef ${PREFIX}_GOLDEN_H
#define ${PREFIX}_GOLDEN_H

#include <stddef.h>
#include <stdint.h>

#include "${prefix}_model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Inputs, and what the reference kernels answer to them. Leave this file and its .c out of a product.
 * Kernels of another maker may differ by so many steps in each output; tflite-micro's own differed by ${max_steps}. */
#define ${PREFIX}_GOLDEN_SAMPLES ${samples}
#define ${PREFIX}_GOLDEN_ALLOWED_STEPS ${allowed_steps}
${golden_declarations}

/* The largest distance of an answer to the golden one of a sample, in steps. */
${difference_declarations}

#ifdef __cplusplus
}
#endif

#endif
