#include "tests/cuda_emulation/options.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string_view>

#include "tests/cuda_emulation/report.h"

namespace tandem::emulation {
namespace {

[[noreturn]] void Refuse(std::string_view item) {
  fmt::print(stderr, "TANDEM_EMULATION: '{}' is not an option\n", item);
  std::exit(2);
}

int64_t Number(std::string_view item, std::string_view value) {
  int64_t n = 0;
  const char* end = value.data() + value.size();
  const auto [rest, error] = std::from_chars(value.data(), end, n);
  if (error != std::errc() || n < 0) Refuse(item);
  const std::string_view suffix(rest, static_cast<size_t>(end - rest));
  if (suffix == "K") return n << 10;
  if (suffix == "M") return n << 20;
  if (suffix == "G") return n << 30;
  if (!suffix.empty()) Refuse(item);
  return n;
}

// The index of value among the words.
template <class Enum>
Enum Word(std::string_view item, std::string_view value,
          std::initializer_list<std::string_view> words) {
  int i = 0;
  for (const std::string_view word : words) {
    if (word == value) return static_cast<Enum>(i);
    ++i;
  }
  Refuse(item);
}

void Set(Options& options, std::string_view item, bool& has_seed) {
  const size_t equals = item.find('=');
  if (equals == std::string_view::npos) Refuse(item);
  const std::string_view key = item.substr(0, equals);
  const std::string_view value = item.substr(equals + 1);
  if (key == "policy") {
    options.policy = Word<Policy>(item, value, {"in_order", "reverse", "random"});
  } else if (key == "cp_async") {
    options.cp_async = Word<AsyncCopies>(item, value, {"lazy", "eager", "random"});
  } else if (key == "streams") {
    options.streams = Word<Streams>(item, value, {"sync", "deferred"});
  } else if (key == "seed") {
    options.seed = static_cast<uint64_t>(Number(item, value));
    has_seed = true;
  } else if (key == "arch") {
    constexpr int kArchitectures[] = {75, 80, 86, 90, 100};
    options.arch = kArchitectures[Word<int>(item, value, {"75", "80", "86", "90", "100"})];
  } else if (key == "driver") {
    options.driver = static_cast<int>(Number(item, value));
  } else if (key == "memory") {
    options.memory = Number(item, value);
  } else if (key == "watchdog") {
    options.watchdog_seconds = static_cast<int>(Number(item, value));
  } else if (key == "devices") {
    options.devices = static_cast<int>(Number(item, value));
  } else if (key == "align") {
    options.align = Word<int>(item, value, {"16", "256"}) == 0 ? 16 : 256;
  } else if (key == "hostguard") {
    options.hostguard = Word<HostGuard>(item, value, {"auto", "mprotect", "off"});
  } else if (key == "peer_access") {
    options.peer_access = Word<int>(item, value, {"0", "1"}) == 1;
  } else if (key == "progress_ms") {
    options.progress_ms = static_cast<int>(Number(item, value));
  } else if (key == "collective_seconds") {
    options.collective_seconds = static_cast<int>(Number(item, value));
  } else if (key == "fail_launch") {
    options.fail_launch = Number(item, value);
  } else {
    Refuse(item);
  }
}

Options FromEnvironment() {
  Options options;
  bool has_seed = false;
  const char* text = std::getenv("TANDEM_EMULATION");
  std::string_view rest = text == nullptr ? "" : text;
  while (!rest.empty()) {
    const size_t comma = std::min(rest.find(','), rest.size());
    Set(options, rest.substr(0, comma), has_seed);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  if (!has_seed) options.seed = std::random_device()();
  if (options.policy == Policy::kRandom || options.cp_async == AsyncCopies::kRandom ||
      options.streams == Streams::kDeferred) {
    fmt::print(stderr, "cuda emulation: seed {}\n", options.seed);
  }
  return options;
}

Options& Current() {
  static Options options = FromEnvironment();
  return options;
}

}  // namespace

const Options& GetOptions() { return Current(); }
void SetOptions(const Options& options) { Current() = options; }

}  // namespace tandem::emulation
