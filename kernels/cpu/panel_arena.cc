#include "kernels/cpu/panel_arena.h"

#include <algorithm>

#include "common/check.h"

namespace tandem::kernels::cpu {
namespace {

// What is never touched of the last one takes addresses, not memory.
constexpr size_t kSlabBytes = size_t{64} << 20;
constexpr size_t kCacheLine = 64;

}  // namespace

PanelMemory PanelArena::Take(size_t bytes) {
  if (!slab_ || slab_->size() - used_ < bytes) {
    slab_ = std::make_shared<const AlignedBuffer>(std::max(kSlabBytes, bytes));
    TANDEM_CHECK(slab_->data() != nullptr) << "no memory for " << bytes << " bytes of weights";
    used_ = 0;
  }
  PanelMemory memory{slab_, slab_->data() + used_, bytes};
  used_ = std::min(slab_->size(), (used_ + bytes + kCacheLine - 1) / kCacheLine * kCacheLine);
  return memory;
}

}  // namespace tandem::kernels::cpu
