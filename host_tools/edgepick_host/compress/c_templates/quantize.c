/* Made by edgepick $version from the variant $variant of the model $name. Do not edit. */
#include "${prefix}_quantize.h"

#include "${prefix}_model.h"

${quantize_definitions}
