// Runs one function on n ranks: n threads over one shared-memory communicator, the real one.
// Returns when all have returned.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <span>
#include <thread>
#include <vector>

#include "common/check.h"
#include "kernels/comm/shm_communicator.h"

namespace tandem::testing {

// Memory for a group's communicator, formatted. Private to this process.
class CommRegion {
 public:
  CommRegion(int size, size_t max_bytes) {
    const size_t bytes = kernels::ShmCommunicator::RequiredBytes(size, max_bytes);
    data_ = {static_cast<std::byte*>(::operator new(bytes, kAlign)), bytes};
    kernels::ShmCommunicator::Format(data_, size, max_bytes);
  }
  ~CommRegion() { ::operator delete(data_.data(), kAlign); }
  CommRegion(const CommRegion&) = delete;
  CommRegion& operator=(const CommRegion&) = delete;

  std::span<std::byte> span() const { return data_; }

 private:
  static constexpr std::align_val_t kAlign{128};
  std::span<std::byte> data_;
};

inline void SpawnRanks(int n, const std::function<void(kernels::Communicator&)>& fn,
                       size_t max_bytes = 256 << 10) {
  CommRegion region(n, max_bytes);
  std::vector<std::unique_ptr<kernels::ShmCommunicator>> comms;
  for (int r = 0; r < n; ++r) {
    auto comm = kernels::ShmCommunicator::Attach(region.span(), r, n);
    TANDEM_CHECK(comm.ok()) << Message(comm.status());
    comms.push_back(std::move(comm).value());
  }
  std::vector<std::thread> threads;
  for (auto& comm : comms) threads.emplace_back([&fn, &comm] { fn(*comm); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace tandem::testing
