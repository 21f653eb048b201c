#include "worker/model/cuda/uploader.h"

#include <algorithm>
#include <cstring>

namespace tandem::model::cuda {

StatusOr<Uploader> Uploader::Make() {
  Uploader uploader;
  TANDEM_ASSIGN_OR_RETURN(uploader.stream_, MakeStream());
  for (Chunk& chunk : uploader.chunks_) {
    TANDEM_ASSIGN_OR_RETURN(chunk.memory, AllocatePinned(kChunkBytes));
    chunk.bytes = kChunkBytes;
    TANDEM_ASSIGN_OR_RETURN(chunk.copied, MakeEvent());
  }
  return uploader;
}

Status Uploader::Units(void* to, int64_t count, int64_t unit_bytes,
                       const std::function<void(int64_t, int64_t, std::byte*)>& fill) {
  const int64_t at_once = std::max<int64_t>(kChunkBytes / unit_bytes, 1);
  for (int64_t begin = 0; begin < count; begin += at_once) {
    const int64_t end = std::min(begin + at_once, count);
    TANDEM_ASSIGN_OR_RETURN(std::byte* const chunk, NextChunk((end - begin) * unit_bytes));
    fill(begin, end, chunk);
    TANDEM_RETURN_IF_ERROR(
        Copy(static_cast<std::byte*>(to) + begin * unit_bytes, (end - begin) * unit_bytes));
  }
  return OkStatus();
}

Status Uploader::Bytes(void* to, std::span<const std::byte> from) {
  return Units(to, static_cast<int64_t>(from.size()), 1,
               [&](int64_t begin, int64_t end, std::byte* chunk) {
                 std::memcpy(chunk, from.data() + begin, static_cast<size_t>(end - begin));
               });
}

StatusOr<std::byte*> Uploader::NextChunk(int64_t bytes) {
  next_ = 1 - next_;
  Chunk& chunk = chunks_[next_];
  TANDEM_RETURN_IF_ERROR(FromCuda(cudaEventSynchronize(chunk.copied.get()), "copying weights"));
  if (bytes > chunk.bytes) {  // one unit that is larger than a chunk
    TANDEM_ASSIGN_OR_RETURN(chunk.memory, AllocatePinned(bytes));
    chunk.bytes = bytes;
  }
  return static_cast<std::byte*>(chunk.memory.get());
}

Status Uploader::Copy(void* to, int64_t bytes) {
  const Chunk& chunk = chunks_[next_];
  TANDEM_RETURN_IF_ERROR(
      FromCuda(cudaMemcpyAsync(to, chunk.memory.get(), static_cast<size_t>(bytes),
                               cudaMemcpyHostToDevice, stream_.get()),
               "copying weights"));
  return FromCuda(cudaEventRecord(chunk.copied.get(), stream_.get()), "copying weights");
}

Status Uploader::Finish() {
  for (const Chunk& chunk : chunks_) {
    TANDEM_RETURN_IF_ERROR(FromCuda(cudaEventSynchronize(chunk.copied.get()), "copying weights"));
  }
  return OkStatus();
}

}  // namespace tandem::model::cuda
