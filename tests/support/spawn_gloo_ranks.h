// Runs one function on n ranks: n threads, each with a Gloo communicator over the loopback, the
// real one. Returns when all have returned.
#pragma once

#include <signal.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/check.h"
#include "kernels/comm/gloo_communicator.h"

namespace tandem::testing {

// Not connected yet; `addresses` are theirs, by rank.
inline std::vector<std::unique_ptr<kernels::GlooCommunicator>> MakeGlooRanks(
    int n, size_t max_bytes, std::vector<std::string>& addresses) {
  ::signal(SIGPIPE, SIG_IGN);
  std::vector<std::unique_ptr<kernels::GlooCommunicator>> comms;
  for (int r = 0; r < n; ++r) {
    auto comm = kernels::GlooCommunicator::Create("127.0.0.1", r, n, max_bytes);
    TANDEM_CHECK(comm.ok()) << Message(comm.status());
    addresses.push_back((*comm)->addresses());
    comms.push_back(std::move(comm).value());
  }
  return comms;
}

inline void SpawnGlooRanks(int n, const std::function<void(kernels::Communicator&)>& fn,
                           size_t max_bytes) {
  std::vector<std::string> addresses;
  auto comms = MakeGlooRanks(n, max_bytes, addresses);
  std::vector<std::thread> threads;
  for (auto& comm : comms) {
    threads.emplace_back([&] {
      const Status connected = comm->Connect(addresses);
      TANDEM_CHECK(connected.ok()) << Message(connected);
      fn(*comm);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace tandem::testing
