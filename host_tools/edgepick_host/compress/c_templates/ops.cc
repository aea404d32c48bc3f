// Made by edgepick $version from the variant $variant of the model $name. Do not edit.
#include "${prefix}_ops.h"

TfLiteStatus Register${Prefix}Ops(${Prefix}OpResolver& resolver) {
${registrations}
  return kTfLiteOk;
}
