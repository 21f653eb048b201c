// Fills GPU memory from the host through two pinned buffers in turn: one is filled while the other
// is copied, so that a weight is never twice in host memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "worker/model/cuda/device.h"

namespace tandem::model::cuda {

class Uploader {
 public:
  static constexpr int64_t kChunkBytes = 16 << 20;

  static StatusOr<Uploader> Make();

  // to[i] for unit i in [0, count): `fill` writes units [begin, end) to where it is told. Returns
  // before the last copy is done; see Finish.
  Status Units(void* to, int64_t count, int64_t unit_bytes,
               const std::function<void(int64_t begin, int64_t end, std::byte* chunk)>& fill);
  Status Bytes(void* to, std::span<const std::byte> from);

  // Waits until all is there.
  Status Finish();

 private:
  struct Chunk {
    PinnedMemory memory;
    int64_t bytes = 0;
    Event copied;
  };
  Status Copy(void* to, int64_t bytes);  // of the chunk that is filled
  StatusOr<std::byte*> NextChunk(int64_t bytes);

  Stream stream_;
  Chunk chunks_[2];
  int next_ = 0;
};

}  // namespace tandem::model::cuda
