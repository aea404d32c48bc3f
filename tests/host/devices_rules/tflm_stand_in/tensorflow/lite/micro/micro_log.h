// A stand-in with the signature of tflite-micro's header.
#ifndef STAND_IN_MICRO_LOG_H
#define STAND_IN_MICRO_LOG_H

void MicroPrintf(const char* format, ...);

#endif
