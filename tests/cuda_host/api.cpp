// What the tests call by ctypes, beside the ops.
#include "memory.h"
#include "simt.h"

#define EXPORT extern "C" [[gnu::visibility("default")]]

EXPORT void simt_set_order(int order) { simt::set_order(static_cast<simt::Order>(order)); }
EXPORT const char* simt_error() { return simt::error().c_str(); }
EXPORT void simt_set_device(int multiprocessors, int compute_capability) {
  simt::set_device({multiprocessors, compute_capability});
}
