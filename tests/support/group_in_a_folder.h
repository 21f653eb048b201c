// Options for ranks that meet in a test's own folder, and a rank that does no more than take plans.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

#include "common/check.h"
#include "worker/link/rank_link.h"

namespace tandem::testing {

inline constexpr PlanLimits kSmallLimits = {.max_rows = 4,
                                            .max_step_tokens = 16,
                                            .max_blocks_per_seq = 8,
                                            .block_size = 16,
                                            .mask_words = 2};

// A port of the loopback that nobody listens on at this moment.
inline int FreePort() {
  const link::UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  TANDEM_CHECK(::bind(socket.get(), generic, size) == 0 &&
               ::getsockname(socket.get(), generic, &size) == 0)
      << "no free port";
  return ntohs(address.sin_port);
}

// `port` 0: the ranks meet in the folder, else there, over TCP.
inline link::RankLinkOptions RankOptions(const std::string& folder, int rank, int tp,
                                         int port = 0) {
  link::RankLinkOptions options;
  options.runtime_dir = folder + "/run";
  options.group = "g0";
  options.rank = rank;
  options.tp = tp;
  options.build = "test-1";
  options.settings = "f32/f32";
  options.comm_bytes = 4096;
  options.host = "127.0.0.1";
  options.port = port;
  return options;
}

inline link::LoadedShard ShardWith(int num_blocks) { return {"fp", "reference", num_blocks}; }

// A rank that has joined: takes plans until the group ends. 0 after a shutdown, 75 after an abort,
// 2 if the leader would not have it. Beats as a watchdog would.
inline int TakePlans(link::RankLink& link) {
  const auto blocks = link.Agree(ShardWith(100 + link.rank()), {});
  if (!blocks.ok()) return blocks.status().code() == StatusCode::kInvalidArgument ? 2 : 75;
  link::PlanRing& ring = link.ring();
  for (uint64_t last = 0;;) {
    StepPlan plan;
    switch (ring.WaitNext(link.rank(), plan)) {
      case link::PlanRing::Next::kShutdown:
        return 0;
      case link::PlanRing::Next::kAborted:
        return 75;
      case link::PlanRing::Next::kPlan:
        break;
    }
    link.roll_call().Beat(link.rank());
    // What the test publishes: the plan says of itself what is in it.
    if (plan.step != ++last) return 3;
    for (const TokenId token : plan.tokens) {
      if (token != static_cast<TokenId>(plan.step)) return 4;
    }
    for (const PlanRow& row : plan.rows) {
      if (row.slot != static_cast<int32_t>(plan.tokens.size())) return 5;
    }
    ring.Done(link.rank());
  }
}

// Joins, then takes plans; 2 or 1 if the leader would not have it.
inline int TakePlans(const link::RankLinkOptions& options) {
  auto link = link::RankLink::Open(options);
  if (!link.ok()) return link.status().code() == StatusCode::kInvalidArgument ? 2 : 1;
  return TakePlans(**link);
}

}  // namespace tandem::testing
