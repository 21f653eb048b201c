#include "common/config/device_profile.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <iterator>
#include <set>
#include <string_view>
#include <vector>

#include "common/config/problem.h"
#include "common/config/values.h"
#include "common/config/yaml_tree.h"

namespace tandem::config {
namespace {

constexpr std::string_view kWhat = "a device profile, like configs/devices/h100-llama3-8b.yaml";
constexpr int64_t kMaxRanks = 64;
constexpr int64_t kMaxKvTokens = 1'000'000'000;
constexpr double kMaxTime = 3600.0 * kSecond;

enum class When : uint8_t { kRequired, kSeveralRanks };

// A time; the two whole numbers are read apart.
struct TimeKey {
  std::string_view name;
  double DeviceProfile::*field;
  When when;
  std::string_view help;
};

constexpr TimeKey kTimes[] = {
    {"launch", &DeviceProfile::launch_ns, When::kRequired,
     "Of a step: the device waits for the host and between kernels"},
    {"weights_read", &DeviceProfile::weights_read_ns, When::kRequired,
     "Of a step: all weights are read once; the floor of its matrix products"},
    {"gemm_per_token", &DeviceProfile::gemm_ns_per_token, When::kRequired,
     "Of each token: matrix products of a batch that is large enough to take longer than "
     "`weights_read`"},
    {"attention_per_pair", &DeviceProfile::attention_ns_per_pair, When::kRequired,
     "Of each pair of a prompt's token and one that it looks at"},
    {"kv_read_per_token", &DeviceProfile::kv_read_ns_per_token, When::kRequired,
     "Of each token in the context of a running reply"},
    {"all_reduce", &DeviceProfile::all_reduce_ns, When::kSeveralRanks,
     "Of a step, whatever it computes; needed for several ranks, refused for one"},
    {"all_reduce_per_token", &DeviceProfile::all_reduce_ns_per_token, When::kSeveralRanks,
     "Of each token; likewise"},
};

constexpr std::string_view kTimeText = "time, 0ns to 1h";

std::vector<std::string> KnownNames() {
  std::vector<std::string> names = {"ranks", "kv_tokens"};
  for (const TimeKey& key : kTimes) names.emplace_back(key.name);
  return names;
}

StatusOr<int64_t> ReadInteger(const std::string& text, int64_t min, int64_t max) {
  const StatusOr<int64_t> number = ParseInteger(text);
  if (!number.ok()) {
    return InvalidArgument("{}; integer, {} to {}", Message(number.status()), min, max);
  }
  if (*number < min || *number > max) {
    return InvalidArgument("{} is out of range; integer, {} to {}", *number, min, max);
  }
  return number;
}

// 26.8us, 5.5ms, 0ns, to nanoseconds.
StatusOr<double> ReadTime(const std::string& text) {
  struct Unit {
    std::string_view name;
    double factor;
  };
  constexpr Unit kUnits[] = {{"ns", 1}, {"us", kMicrosecond}, {"ms", kMillisecond}, {"s", kSecond}};
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  std::string_view unit(rest, static_cast<size_t>(end - rest));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  const auto* const known = std::find_if(std::begin(kUnits), std::end(kUnits),
                                         [&](const Unit& u) { return u.name == unit; });
  if (error != std::errc() || known == std::end(kUnits)) {
    return InvalidArgument("'{}' is not a time; a number of ns, us, ms or s, like 26.8us", text);
  }
  const double ns = number * known->factor;
  if (!(ns >= 0 && ns <= kMaxTime)) {
    return InvalidArgument("'{}' is out of range; {}", text, kTimeText);
  }
  return ns;
}

class ProfileReader {
 public:
  StatusOr<DeviceProfile> Read(const YamlNode& root, const std::string& path) {
    profile_.name = std::filesystem::path(path).stem();
    if (root.kind != YamlNode::Kind::kMap) {
      Add(root.at, fmt::format("the file is {}; a map with the keys {}", KindText(root),
                               Join(KnownNames(), ", ")));
      return Report(path, problems_);
    }
    std::set<std::string> seen;
    for (size_t i = 0; i + 1 < root.items.size(); i += 2) {
      const YamlNode& key = root.items[i];
      if (seen.insert(key.text).second) {
        ReadKey(key, root.items[i + 1]);
      } else {
        Add(key.at, fmt::format("'{}' stands here a second time; keep one", key.text));
      }
    }
    CheckPresence(root);
    if (problems_.empty()) return profile_;
    std::sort(problems_.begin(), problems_.end());
    return Report(path, problems_);
  }

 private:
  void ReadKey(const YamlNode& key, const YamlNode& value) {
    const std::vector<std::string> known = KnownNames();
    if (std::find(known.begin(), known.end(), key.text) == known.end()) {
      Add(key.at, UnknownKey(key.text, "at the top", known));
    } else if (value.kind != YamlNode::Kind::kScalar) {
      Add(value.at, fmt::format("'{}' is {}; a single value", key.text, KindText(value)));
    } else if (const Status status = Set(key.text, value.text); !status.ok()) {
      Add(value.at, fmt::format("'{}': {}", key.text, Message(status)));
    }
  }

  Status Set(const std::string& name, const std::string& text) {
    if (name == "ranks") {
      TANDEM_ASSIGN_OR_RETURN(const int64_t ranks, ReadInteger(text, 1, kMaxRanks));
      profile_.ranks = static_cast<int>(ranks);
      return OkStatus();
    }
    if (name == "kv_tokens") {
      TANDEM_ASSIGN_OR_RETURN(profile_.kv_tokens, ReadInteger(text, 1, kMaxKvTokens));
      return OkStatus();
    }
    for (const TimeKey& key : kTimes) {
      if (key.name != name) continue;
      TANDEM_ASSIGN_OR_RETURN(profile_.*key.field, ReadTime(text));
    }
    return OkStatus();
  }

  void CheckPresence(const YamlNode& root) {
    if (FindValue(root, "kv_tokens") == nullptr) {
      Add(root.at, "'kv_tokens' is missing; how many tokens fit the KV memory");
    }
    for (const TimeKey& key : kTimes) {
      const YamlNode* value = FindValue(root, key.name);
      const bool needed = key.when == When::kRequired || profile_.ranks > 1;
      if (value == nullptr && needed) {
        Add(root.at, fmt::format("'{}' is missing; {}", key.name, kTimeText));
      } else if (value != nullptr && !needed) {
        Add(value->at,
            fmt::format("'{}' of a device alone; take it out, or say how many ranks", key.name));
      }
    }
  }

  void Add(Position at, std::string message) { problems_.push_back({at, std::move(message)}); }

  DeviceProfile profile_;
  std::vector<Problem> problems_;
};

}  // namespace

StatusOr<DeviceProfile> LoadDeviceProfile(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(const std::string yaml, ReadYamlFile(path, kWhat));
  return ParseDeviceProfile(yaml, path);
}

StatusOr<DeviceProfile> ParseDeviceProfile(const std::string& yaml, const std::string& path) {
  YamlNode root;
  YamlError error;
  if (!ParseYaml(yaml, &root, &error)) return Report(path, {{error.at, error.message}});
  return ProfileReader().Read(root, path);
}

std::string DeviceProfileReference() {
  std::string text = "| key | value | meaning |\n| --- | --- | --- |\n";
  const auto row = [&](std::string_view name, std::string_view value, std::string_view help) {
    fmt::format_to(std::back_inserter(text), "| `{}` | {} | {} |\n", name, value, help);
  };
  row("ranks", fmt::format("integer, 1 to {}", kMaxRanks),
      "Devices of a group; 1 if left out. Times are those of the whole group");
  row("kv_tokens", fmt::format("integer, 1 to {}", kMaxKvTokens), "Tokens that fit the KV memory");
  for (const TimeKey& key : kTimes) row(key.name, kTimeText, key.help);
  return text;
}

}  // namespace tandem::config
