// Made by edgepick $version from the variant $variant of the model $name. Do not edit.
#ifndef ${PREFIX}_OPS_H
#define ${PREFIX}_OPS_H

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

// The kinds of operators in the model: ${operator_list}.
using ${Prefix}OpResolver = tflite::MicroMutableOpResolver<${operators}>;

TfLiteStatus Register${Prefix}Ops(${Prefix}OpResolver& resolver);

#endif
