// The two ends' options and the waits that the tests of the link share.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "tests/support/link_pair.h"

namespace tandem::testing {

using link::GroupLinkOptions;

inline GroupLinkOptions RouterOptions(const std::string& endpoint = "tcp://127.0.0.1:*") {
  GroupLinkOptions options;
  options.endpoint = endpoint;
  options.models = {{"tiny", "fp"}};
  options.ping_interval = 20 * kMillisecond;
  options.silence_slack = 60 * kSecond;
  return options;
}

inline std::unique_ptr<RunningLink> OpenRouter(RecordingListener& listener,
                                               const GroupLinkOptions& options = RouterOptions()) {
  return std::make_unique<RunningLink>(options, listener);
}

inline routing::GenerateRequest Request(RequestId request, uint32_t attempt = 0) {
  routing::GenerateRequest generate;
  generate.request = request;
  generate.attempt = attempt;
  generate.prompt = {1, 2, 3};
  generate.max_tokens = 5;
  generate.seed = 42;
  generate.temperature = 0.5;
  generate.num_logprobs = 2;
  generate.repetition_penalty = 1.25;
  generate.presence_penalty = -0.5;
  generate.frequency_penalty = 0.75;
  generate.stop_ids = {0};
  generate.cache_salt = "salt";
  generate.deadline_in = kSecond;
  return generate;
}

// A router counts a group as up before its Welcome has arrived there; what the leader sends before
// that is not of the session.
inline void WaitForSessions(FakeLeader& leader, uint64_t count) {
  while (leader.link().stats().sessions_opened < count) std::this_thread::yield();
}

inline void WaitForRefusals(const RunningLink& router, uint64_t count) {
  const auto patience = std::chrono::steady_clock::now() + kPatience;
  while (router.stats().hellos_refused < count && std::chrono::steady_clock::now() < patience) {
    std::this_thread::yield();
  }
  ASSERT_GE(router.stats().hellos_refused, count);
}

}  // namespace tandem::testing
