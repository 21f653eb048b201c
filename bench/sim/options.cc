#include "bench/sim/options.h"

#include <charconv>
#include <string_view>

#include "bench/sim/peers/peers.h"
#include "common/config/values.h"

namespace tandem::simulator {
namespace {

constexpr std::string_view kFcfs = "@fcfs";

std::vector<std::string> Split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::string KnownPolicies() {
  std::vector<std::string> names;
  for (const std::string_view name : routing::PolicyNames()) names.emplace_back(name);
  for (const std::string_view name : PeerNames()) names.emplace_back(name);
  return config::Join(names, ", ");
}

std::unique_ptr<routing::Policy> MakeAny(const std::string& name) {
  if (std::unique_ptr<routing::Policy> peer = MakePeer(name)) return peer;
  StatusOr<std::unique_ptr<routing::Policy>> own = routing::MakePolicy(name);
  return own.ok() ? std::move(*own) : nullptr;
}

StatusOr<PolicySpec> ParsePolicy(std::string_view text) {
  PolicySpec spec;
  spec.name = text;
  spec.fcfs = text.ends_with(kFcfs);
  if (spec.fcfs) text.remove_suffix(kFcfs.size());
  spec.policy = text;
  if (MakeAny(spec.policy) == nullptr) {
    return InvalidArgument("--policy: '{}' is not known; one of {}, each also with {}", spec.policy,
                           KnownPolicies(), kFcfs);
  }
  spec.make = [name = spec.policy] { return MakeAny(name); };
  return spec;
}

}  // namespace

StatusOr<std::vector<PolicySpec>> ParsePolicies(const std::string& list) {
  std::vector<PolicySpec> specs;
  for (const std::string& text : Split(list, ',')) {
    TANDEM_ASSIGN_OR_RETURN(PolicySpec spec, ParsePolicy(text));
    specs.push_back(std::move(spec));
  }
  return specs;
}

StatusOr<Slo> ParseSlo(const std::string& text) {
  Slo slo;
  if (text.empty()) return slo;
  for (const std::string& part : Split(text, ',')) {
    const size_t equals = std::min(part.find('='), part.size());
    const std::string key = part.substr(0, equals);
    Nanos* bound = key == "ttft" ? &slo.ttft : key == "itl" ? &slo.itl : nullptr;
    const StatusOr<Nanos> value =
        config::ParseDuration(std::string_view(part).substr(std::min(equals + 1, part.size())));
    if (bound == nullptr || *bound != 0 || !value.ok() || *value <= 0) {
      return InvalidArgument("--slo: '{}' is no objective; like ttft=3s,itl=50ms", part);
    }
    *bound = *value;
  }
  return slo;
}

StatusOr<SlowGroups> ParseSlowGroups(const std::string& text) {
  SlowGroups slow;
  if (text.empty()) return slow;
  const char* const end = text.data() + text.size();
  const auto [colon, count_error] = std::from_chars(text.data(), end, slow.count);
  const char* const second = colon == end ? end : colon + 1;
  const auto [stop, factor_error] = std::from_chars(second, end, slow.factor);
  if (count_error != std::errc() || colon == end || *colon != ':' || factor_error != std::errc() ||
      stop != end || slow.count < 1 || !(slow.factor >= 0.01 && slow.factor <= 100)) {
    return InvalidArgument("--slow: '{}' is not GROUPS:FACTOR; like 4:1.6", text);
  }
  return slow;
}

}  // namespace tandem::simulator
