// Made by edgepick $version from the variant $variant of the model $name. A start; copy what you need.
//
// Answers the golden inputs, and returns 0 if every answer is as near as it should be.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "${prefix}_golden.h"
#include "${prefix}_model.h"
#include "${prefix}_ops.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace {

alignas(16) uint8_t arena[${PREFIX}_ARENA_BYTES];

}  // namespace

int main() {
  tflite::InitializeTarget();
  const tflite::Model* model = tflite::GetModel(${prefix}_model);
  if (model->version() != TFLITE_SCHEMA_VERSION) {
    MicroPrintf("schema version %d, expected %d", static_cast<int>(model->version()), TFLITE_SCHEMA_VERSION);
    return 1;
  }
  ${Prefix}OpResolver resolver;
  if (Register${Prefix}Ops(resolver) != kTfLiteOk) return 1;
  tflite::MicroInterpreter interpreter(model, resolver, arena, sizeof arena);
  if (interpreter.AllocateTensors() != kTfLiteOk) {
    MicroPrintf("an arena of %d bytes is too small", static_cast<int>(sizeof arena));
    return 1;
  }
  int32_t largest = 0;
  for (size_t sample = 0; sample < ${PREFIX}_GOLDEN_SAMPLES; ++sample) {
${feeds}
    if (interpreter.Invoke() != kTfLiteOk) return 1;
${answers}
  }
  MicroPrintf("arena used: %d bytes; largest difference: %d steps", static_cast<int>(interpreter.arena_used_bytes()),
              static_cast<int>(largest));
  return largest <= ${PREFIX}_GOLDEN_ALLOWED_STEPS ? 0 : 1;
}
