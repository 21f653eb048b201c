// The types of GGUF's metadata values, by the numbers of the specification. Internal to
// common/gguf.
#pragma once

#include <cstdint>

namespace tandem::gguf {

enum class ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

inline constexpr uint32_t kNumValueTypes = 13;

// Bytes of a value of fixed size; 0 for strings and arrays.
inline uint64_t ValueBytes(uint32_t type) {
  constexpr uint64_t kBytes[kNumValueTypes] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < kNumValueTypes ? kBytes[type] : 0;
}

inline const char* ValueTypeName(uint32_t type) {
  constexpr const char* kNames[kNumValueTypes] = {"uint8",  "int8",    "uint16", "int16",  "uint32",
                                                  "int32",  "float32", "bool",   "string", "array",
                                                  "uint64", "int64",   "float64"};
  return type < kNumValueTypes ? kNames[type] : "unknown";
}

}  // namespace tandem::gguf
