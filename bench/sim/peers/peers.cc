#include "bench/sim/peers/peers.h"

namespace tandem::simulator {
namespace {

constexpr std::string_view kNames[] = {"sglang", "dynamo", "dynamo16", "llm_d", "argmin"};

}  // namespace

std::unique_ptr<routing::Policy> MakePeer(std::string_view name) {
  if (name == "sglang") return MakeSglang();
  if (name == "dynamo") return MakeDynamo(1);
  if (name == "dynamo16") return MakeDynamo(16);
  if (name == "llm_d") return MakeLlmD();
  if (name == "argmin") return MakeArgmin();
  return nullptr;
}

std::span<const std::string_view> PeerNames() { return kNames; }

}  // namespace tandem::simulator
