/* Made by edgepick $version from the variant $variant of the model $name. Do not edit. */
#ifndef ${PREFIX}_QUANTIZE_H
#define ${PREFIX}_QUANTIZE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* quantize: a real value as the input takes it, rounded and kept within its type. dequantize: an answer as a real
 * value. */
${quantize_declarations}

#ifdef __cplusplus
}
#endif

#endif
