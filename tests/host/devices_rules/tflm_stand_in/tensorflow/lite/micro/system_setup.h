// A stand-in with the signature of tflite-micro's header.
#ifndef STAND_IN_SYSTEM_SETUP_H
#define STAND_IN_SYSTEM_SETUP_H

namespace tflite {

void InitializeTarget();

}  // namespace tflite

#endif
