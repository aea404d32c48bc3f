/* Made by edgepick $version from the variant $variant of the model $name. Do not edit. */
#include "${prefix}_model.h"

#include <stdalign.h>

alignas(16) const unsigned char ${prefix}_model[${PREFIX}_MODEL_BYTES] = {
${data}};
