// A stand-in with the signatures of TensorFlow Lite's header.
#ifndef STAND_IN_SCHEMA_GENERATED_H
#define STAND_IN_SCHEMA_GENERATED_H

#include <cstdint>

#define TFLITE_SCHEMA_VERSION (3)

namespace tflite {

struct Model {
  uint32_t version() const;
};

const Model* GetModel(const void* buffer);

}  // namespace tflite

#endif
