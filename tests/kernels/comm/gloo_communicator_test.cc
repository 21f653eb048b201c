#include "kernels/comm/gloo_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/support/spawn_gloo_ranks.h"

namespace tandem::kernels {
namespace {

using tandem::testing::MakeGlooRanks;
using ::testing::HasSubstr;

// Three connected ranks, of which two wait for the third.
struct TwoWaiting {
  std::vector<std::string> addresses;
  std::vector<std::unique_ptr<GlooCommunicator>> comms = MakeGlooRanks(3, 1024, addresses);
  std::vector<std::thread> threads;

  TwoWaiting() {
    for (auto& comm : comms) {
      threads.emplace_back([&] { EXPECT_TRUE(comm->Connect(addresses).ok()); });
    }
    Join();
    for (int r = 0; r < 2; ++r) {
      threads.emplace_back([&comm = *comms[r]] {
        std::vector<float> v(10);
        comm.AllReduceSum(v);  // rank 2 never comes
        EXPECT_EQ(comm.Poll().code(), StatusCode::kUnavailable);
        comm.AllReduceSum(v);  // returns at once
      });
    }
  }
  void Join() {
    for (std::thread& thread : threads) thread.join();
    threads.clear();
  }
};

TEST(GlooCommunicator, AbortEndsTheWaitsForThatRank) {
  TwoWaiting ranks;
  ranks.comms[2]->Abort();
  ranks.Join();
  EXPECT_EQ(std::string(Message(ranks.comms[2]->Poll())), "rank 2 aborted the group");
  ranks.comms[2]->Abort();
  EXPECT_EQ(std::string(Message(ranks.comms[2]->Poll())), "rank 2 aborted the group");
}

TEST(GlooCommunicator, ARankAbortsItsOwnWait) {
  TwoWaiting ranks;
  // Either may wait for the third by now, so that the end of the other tells it nothing.
  for (int r = 0; r < 2; ++r) ranks.comms[r]->Abort();
  ranks.Join();
  EXPECT_EQ(std::string(Message(ranks.comms[0]->Poll())), "rank 0 aborted the group");
}

TEST(GlooCommunicator, ARankThatIsGoneEndsTheWaitOfTheOthers) {
  TwoWaiting ranks;
  ranks.comms[2].reset();
  ranks.Join();
}

TEST(GlooCommunicator, AbortEndsTheWaitForConnections) {
  std::vector<std::string> addresses;
  auto comms = MakeGlooRanks(2, 1024, addresses);
  // Neither hears of the other: one waits to be called, one calls who does not answer.
  for (auto& comm : comms) {
    std::thread waits([&] {
      const Status status = comm->Connect(addresses);
      EXPECT_EQ(status.code(), StatusCode::kUnavailable) << Message(status);
    });
    comm->Abort();
    waits.join();
  }
}

TEST(GlooCommunicator, WhatCannotWorkIsRefused) {
  // TEST-NET-1: no machine has it.
  const auto elsewhere = GlooCommunicator::Create("192.0.2.1", 0, 2, 1024);
  EXPECT_EQ(elsewhere.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Message(elsewhere.status())), HasSubstr("192.0.2.1"));
  EXPECT_EQ(GlooCommunicator::Create("node-1", 0, 2, 1024).status().code(),
            StatusCode::kInvalidArgument);
  std::vector<std::string> addresses;
  auto comms = MakeGlooRanks(2, 1024, addresses);
  addresses[1].pop_back();
  EXPECT_EQ(comms[0]->Connect(addresses).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tandem::kernels
