/* Made by edgepick $version from the variant $variant of the model $name. Do not edit. */
#include "${prefix}_golden.h"

${golden_definitions}

${difference_definitions}