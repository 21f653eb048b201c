#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace tandem::kernels::cpu {
namespace {

TEST(ThreadPool, EveryPartRunsOncePerCall) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int parts : {1, 2, 3, 5, 7, 64}) {
      std::vector<int> counts(parts);  // each part writes its own
      for (int call = 1; call <= 200; ++call) {
        pool.Run(parts, [&](int part, int) { ++counts[part]; });
        ASSERT_EQ(counts, std::vector<int>(parts, call)) << threads << " threads";
      }
    }
    pool.Run(0, [](int, int) { FAIL(); });
  }
}

TEST(ThreadPool, WorkIsSeenByTheNextCall) {
  ThreadPool pool(3);
  std::vector<int> value(7);
  for (int call = 0; call < 300; ++call) {  // each reads what its neighbour wrote before
    std::vector<int> next(7);
    pool.Run(7, [&](int part, int) { next[part] = value[(part + 1) % 7] + 1; });
    value = next;
  }
  EXPECT_EQ(value, std::vector<int>(7, 300));
}

// Scratch of a thread's index: nobody else has it meanwhile.
TEST(ThreadPool, AnIndexIsOneThreadAtATime) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> inside(4);
  std::vector<std::atomic<std::thread::id>> who(4);
  for (int call = 0; call < 200; ++call) {
    pool.Run(32, [&](int, int thread) {
      EXPECT_EQ(inside[thread].fetch_add(1), 0);
      const std::thread::id before = who[thread].exchange(std::this_thread::get_id());
      EXPECT_TRUE(before == std::thread::id() || before == std::this_thread::get_id());
      inside[thread].fetch_sub(1);
    });
  }
}

// One that is stuck in a part: the others do all that it has not begun.
TEST(ThreadPool, AThreadThatIsHeldUpKeepsNothingButItsPart) {
  ThreadPool pool(2);
  std::atomic<int> others{0};
  std::atomic<bool> stuck{false};
  while (!stuck.load()) {  // the other may sleep through a call
    others = 0;
    pool.Run(10, [&](int, int thread) {
      if (thread == 1 && !stuck.exchange(true)) {
        while (others.load() < 9) std::this_thread::yield();
        return;
      }
      // Gives the other time to take its first.
      for (int i = 0; thread == 0 && !stuck.load() && i < 1000; ++i) std::this_thread::yield();
      ++others;
    });
  }
  EXPECT_EQ(others.load(), 9);
}

// A call after the others have gone to sleep, again and again.
TEST(ThreadPool, WorksOnAfterAPause) {
  ThreadPool pool(3);
  for (int call = 0; call < 5; ++call) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::atomic<int> sum{0};
    pool.Run(6, [&](int part, int) { sum += part; });
    ASSERT_EQ(sum.load(), 15);
  }
}

TEST(ThreadPool, EndsWithoutEverRunning) { ThreadPool pool(4); }

}  // namespace
}  // namespace tandem::kernels::cpu
