#include "worker/link/kv_mirror.h"

#include <algorithm>

namespace tandem::link {

void KvMirror::Apply(const engine::KvEvent& event) {
  last_event_ = event.number;
  switch (event.kind) {
    case engine::KvEvent::Kind::kStored:
      blocks_[event.hash] = {event.parent, event.number};
      break;
    case engine::KvEvent::Kind::kRemoved:
      blocks_.erase(event.hash);
      break;
    case engine::KvEvent::Kind::kCleared:
      blocks_.clear();
      break;
  }
}

std::vector<KvMirror::Block> KvMirror::Snapshot() const {
  std::vector<std::pair<uint64_t, Block>> ordered;
  ordered.reserve(blocks_.size());
  for (const auto& [hash, entry] : blocks_) {
    ordered.push_back({entry.stored_by, {hash, entry.parent}});
  }
  std::sort(ordered.begin(), ordered.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Block> blocks;
  blocks.reserve(ordered.size());
  for (const auto& [number, block] : ordered) blocks.push_back(block);
  return blocks;
}

}  // namespace tandem::link
