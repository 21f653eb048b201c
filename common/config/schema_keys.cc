// Every key, section by section; what is done with them is in schema.cc.
#include "common/config/schema.h"

namespace tandem::config {
namespace {

constexpr int64_t kKiB = 1 << 10;
constexpr int64_t kMiB = 1 << 20;
constexpr int64_t kGiB = 1 << 30;
constexpr Nanos kHour = 3600 * kSecond;

using T = const Target&;

std::vector<Key> ModelKeys() {
  return {
      {.section = "models",
       .name = "name",
       .type = KeyType::kText,
       .field = [](T t) -> Field { return &t.model.name; },
       .help = "What clients say in `model`; without it the file's name less its ending, or "
               "the folder's"},
      {.section = "models",
       .name = "path",
       .type = KeyType::kFile,
       .field = [](T t) -> Field { return &t.model.path; },
       .help = "GGUF file, or a Hugging Face folder (CPU workers); where there is one model, "
               "`--model PATH` of any process goes before it",
       .required = true},
      {.section = "models",
       .name = "max_context",
       .type = KeyType::kInteger,
       .field = [](T t) -> Field { return &t.model.max_context; },
       .help = "Most tokens of prompt and reply together; 0: as many as the model was trained for",
       .max = 1 << 20},
      {.section = "models",
       .name = "pooling",
       .type = KeyType::kChoice,
       .field = [](T t) -> Field { return &t.model.pooling; },
       .help = "What `/v1/embeddings` makes of a text: the hidden state of its last token, or the "
               "mean of all",
       .choices = {"last", "mean"}},
  };
}

std::vector<Key> AliasKeys() {
  return {
      {.section = "aliases",
       .name = "name",
       .type = KeyType::kText,
       .field = [](T t) -> Field { return &t.alias.name; },
       .help = "What clients say in `model`; unlike any model's name and any other alias",
       .required = true,
       .live = true},
      {.section = "aliases",
       .name = "model",
       .type = KeyType::kText,
       .field = [](T t) -> Field { return &t.alias_model; },
       .help = "The model it stands for; instead of `choices`",
       .live = true},
      {.section = "aliases.choices",
       .name = "model",
       .type = KeyType::kText,
       .field = [](T t) -> Field { return &t.choice.model; },
       .help = "The model that serves the requests that come this far and meet what follows",
       .required = true,
       .live = true},
      {.section = "aliases.choices",
       .name = "max_prompt_tokens",
       .type = KeyType::kInteger,
       .field = [](T t) -> Field { return &t.choice.max_prompt_tokens; },
       .help = "Prompts of more tokens go on to the next choice; 0: none does",
       .max = 1 << 24,
       .live = true},
      {.section = "aliases.choices",
       .name = "max_ttft",
       .type = KeyType::kDuration,
       .field = [](T t) -> Field { return &t.choice.max_ttft; },
       .help = "Requests whose time to first token is predicted to be longer go on; 0ms: none does",
       .max = kHour,
       .live = true},
      {.section = "aliases.choices",
       .name = "share",
       .type = KeyType::kInteger,
       .field = [](T t) -> Field { return &t.choice.share; },
       .help = "Percent of the requests that meet the rest which it takes; the others go on",
       .min = 1,
       .max = 100,
       .live = true},
  };
}

std::vector<Key> GroupShapeKeys() {
  return {
      {.section = "groups",
       .name = "name",
       .type = KeyType::kName,
       .field = [](T t) -> Field { return &t.group.name; },
       .help = "Unique; what logs, metrics and `--group` say",
       .required = true},
      {.section = "groups",
       .name = "model",
       .type = KeyType::kText,
       .field = [](T t) -> Field { return &t.group.model; },
       .help = "Name of the model it serves; without it the only one"},
      {.section = "groups",
       .name = "count",
       .type = KeyType::kInteger,
       .field = [](T t) -> Field { return &t.group.count; },
       .help = "As many equal groups; more than one are called `NAME-0`, `NAME-1`, ...",
       .min = 1,
       .max = 4096},
      {.section = "groups",
       .name = "tp",
       .type = KeyType::kInteger,
       .field = [](T t) -> Field { return &t.group.tp; },
       .help = "Ranks (processes) that share one replica of the model",
       .min = 1,
       .max = 64},
      {.section = "groups",
       .name = "hosts",
       .type = KeyType::kHosts,
       .field = [](T t) -> Field { return &t.group.hosts; },
       .help = "Addresses of the machines that its ranks run on, in order of rank, or a single one "
               "for all; without them any machine's `tandem up` runs the group"},
      {.section = "groups",
       .name = "rendezvous_port",
       .type = KeyType::kInteger,
       .field = [](T t) -> Field { return &t.group.rendezvous_port; },
       .help = "Port of the first of `hosts` where ranks of several hosts meet, see below; 0: they "
               "are on one machine",
       .max = 65535},
      {.section = "groups",
       .name = "threads",
       .type = KeyType::kInteger,
       .field = [](T t) -> Field { return &t.group.threads; },
       .help =
           "Compute threads of each rank; `tp` x `threads` beyond the cores only costs. `auto`: "
           "an equal share of the cores that the affinity mask and the cgroup of the process "
           "allow; of four or more, one is left to the router",
       .min = 1,
       .max = 256,
       .zero = "auto"},
      {.section = "groups",
       .name = "pin",
       .type = KeyType::kChoice,
       .field = [](T t) -> Field { return &t.group.pin; },
       .help = "`auto`: each compute thread stays on a CPU of its own, where the ranks' threads "
               "leave at least one CPU to the rest; `off`: the kernel moves them as it likes",
       .choices = {"auto", "off"}},
      {.section = "groups",
       .name = "device",
       .type = KeyType::kChoice,
       .field = [](T t) -> Field { return &t.group.device; },
       .help = "What computes: this machine's cores, a GPU for each rank, or (`sim`) nothing, and "
               "steps only take the time of a `profile`",
       .choices = {"cpu", "cuda", "sim"}},
      {.section = "groups",
       .name = "devices",
       .type = KeyType::kIntegers,
       .field = [](T t) -> Field { return &t.group.devices; },
       .help = "`device: cuda`: the GPU of each rank, as CUDA counts them; without it the ranks of "
               "a machine have its GPUs 0, 1, ...",
       .max = 63},
      {.section = "groups",
       .name = "cuda_graphs",
       .type = KeyType::kFlag,
       .field = [](T t) -> Field { return &t.group.cuda_graphs; },
       .help = "`device: cuda`: steps of decodes alone are launched as a whole; `false` only to "
               "look for a fault"},
      {.section = "groups",
       .name = "peer_memory",
       .type = KeyType::kFlag,
       .field = [](T t) -> Field { return &t.group.peer_memory; },
       .help = "`device: cuda`: GPUs that reach each other's memory sum over it; `false` where "
               "they do not, whatever the driver says: all sums go over NCCL, which uses the same "
               "path unless `NCCL_P2P_DISABLE=1` is in the worker's environment"},
      {.section = "groups",
       .name = "profile",
       .type = KeyType::kFile,
       .field = [](T t) -> Field { return &t.group.profile; },
       .help = "Device profile, needed and allowed with `device: sim` only"},
      {.section = "groups",
       .name = "instruction_set",
       .type = KeyType::kChoice,
       .field = [](T t) -> Field { return &t.group.instruction_set; },
       .help = "Kernels of the CPU; `auto`: the best this machine runs",
       .choices = {"auto", "avx512_bf16", "avx512", "avx_vnni", "avx2", "reference"}},
      {.section = "groups",
       .name = "activation_dtype",
       .type = KeyType::kChoice,
       .field = [](T t) -> Field { return &t.group.activation_dtype; },
       .help =
           "What weights are multiplied with. On a CPU: `int8` (for quantized weights; BF16 ones "
           "multiply bf16), `bf16` (quantized weights become BF16 at load, at two bytes each) "
           "or `f32`, exact and slow. With `device: cuda`: `bf16`, the default there, or `f16`",
       .choices = {"int8", "f32", "bf16", "f16"}},
      {.section = "groups",
       .name = "kv_cache_dtype",
       .type = KeyType::kChoice,
       .field = [](T t) -> Field { return &t.group.kv_cache_dtype; },
       .help = "How a CPU keeps keys and values; `f32` takes twice the memory of `bf16`, `int8` (a "
               "scale for each token and KV head) about half. With `device: cuda` as the "
               "activations",
       .choices = {"bf16", "int8", "f32"}},
  };
}

std::vector<Key> GroupLimitKeys() {
  return {
      {.section = "groups",
       .name = "kv_memory",
       .type = KeyType::kBytes,
       .field = [](T t) -> Field { return &t.group.kv_memory_bytes; },
       .help = "KV cache of the whole group, split over its ranks, taken whole at the start; "
               "`auto`, the default with "
               "`device: cuda` and only there: what its GPUs have left",
       .min = kMiB,
       .max = 16384 * kGiB,
       .zero = "auto"},
      {.section = "groups",
       .name = "block_size",
       .type = KeyType::kInteger,
       .field = [](T t) -> Field { return &t.group.block_size; },
       .help = "Tokens of a KV block, the unit of prefix reuse",
       .min = 16,
       .max = 256,
       .multiple = 16},
      {.section = "groups",
       .name = "max_step_tokens",
       .type = KeyType::kInteger,
       .field = [](T t) -> Field { return &t.group.max_step_tokens; },
       .help = "Token budget of a step: bounds how long a running reply waits for a new prompt; "
               "with `device: cuda` 2048 unless said",
       .min = 1,
       .max = 8192},
      {.section = "groups",
       .name = "max_step_time",
       .type = KeyType::kDuration,
       .field = [](T t) -> Field { return &t.group.max_step_time; },
       .help = "Running replies get no more prompt tokens beside them in a step than are predicted "
               "to fit into this time, but always an eighth of `max_step_tokens`; 0ms: as many as "
               "there are, the default with `device: cuda` and `sim`",
       .min = 0,
       .max = 10 * kSecond},
      {.section = "groups",
       .name = "max_seqs",
       .type = KeyType::kInteger,
       .field = [](T t) -> Field { return &t.group.max_seqs; },
       .help = "Most sequences that run at once; at most `max_step_tokens`",
       .min = 1,
       .max = 1024},
      {.section = "groups",
       .name = "min_watchdog",
       .type = KeyType::kDuration,
       .field = [](T t) -> Field { return &t.group.min_watchdog; },
       .help = "A step may take this long, or ten times its prediction if that is more, before "
               "the group counts as lost",
       .min = 100 * kMillisecond,
       .max = kHour},
  };
}

std::vector<Key> RouterKeys() {
  return {
      {.section = "router",
       .name = "listen",
       .type = KeyType::kAddress,
       .field = [](T t) -> Field {
         return AddressField{&t.cluster.router.listen_host, &t.cluster.router.listen_port};
       },
       .help = "Where clients connect; port 0: any that is free"},
      {.section = "router",
       .name = "api_keys_file",
       .type = KeyType::kFile,
       .field = [](T t) -> Field { return &t.cluster.router.api_keys_file; },
       .help = "One key a line, `#` comments; without it nobody has to authenticate",
       .live = true},
      {.section = "router",
       .name = "text_threads",
       .type = KeyType::kInteger,
       .field = [](T t) -> Field { return &t.cluster.router.text_threads; },
       .help =
           "Threads that tokenize long prompts and write large bodies beside the one that serves",
       .min = 1,
       .max = 64},
      {.section = "router",
       .name = "policy",
       .type = KeyType::kChoice,
       .field = [](T t) -> Field { return &t.cluster.router.policy; },
       .help = "How a group is chosen, see below",
       .choices = {"ttft", "prefix", "least_loaded", "power_of_two", "round_robin", "session"},
       .live = true},
      {.section = "router",
       .name = "session_header",
       .type = KeyType::kHeader,
       .field = [](T t) -> Field { return &t.cluster.router.session_header; },
       .help = "Requests with the same value of it are one session; without it those whose prompts "
               "begin alike",
       .live = true},
      {.section = "router",
       .name = "record_trace",
       .type = KeyType::kNewFile,
       .field = [](T t) -> Field { return &t.cluster.router.record_trace; },
       .help = "Appends a line for each request: when it came, lengths and block hashes, no text"},
  };
}

std::vector<Key> AdmissionKeys() {
  return {
      {.section = "router.admission",
       .name = "max_group_backlog",
       .type = KeyType::kDuration,
       .field = [](T t) -> Field { return &t.cluster.router.admission.max_group_backlog; },
       .help = "A group whose waiting prompts are predicted to take longer gets no more; requests "
               "wait in the router",
       .min = kMillisecond,
       .max = 24 * kHour,
       .live = true},
      {.section = "router.admission",
       .name = "max_queued",
       .type = KeyType::kInteger,
       .field = [](T t) -> Field { return &t.cluster.router.admission.max_queued; },
       .help = "Requests that wait in the router, for each model; beyond them the answer is 429",
       .max = 1'000'000,
       .live = true},
      {.section = "router.admission",
       .name = "ttft_deadline",
       .type = KeyType::kDuration,
       .field = [](T t) -> Field { return &t.cluster.router.admission.ttft_deadline; },
       .help = "Bound on the time to first token of requests without "
               "`x-tandem-ttft-deadline-ms`; a request that is predicted to miss it is answered "
               "with 429; 0ms: none",
       .max = 24 * kHour,
       .live = true},
      {.section = "router.admission",
       .name = "highest_priority",
       .type = KeyType::kChoice,
       .field = [](T t) -> Field { return &t.cluster.router.admission.highest_priority; },
       .help = "What `x-tandem-priority` may ask for at most",
       .choices = {"low", "normal", "high"},
       .live = true},
  };
}

Key LimitKey(std::string_view name, KeyType type, Field (*field)(T), std::string_view help,
             int64_t min, int64_t max) {
  return {.section = "router.limits",
          .name = name,
          .type = type,
          .field = field,
          .help = help,
          .min = min,
          .max = max,
          .live = true};
}

std::vector<Key> RouterLimitKeys() {
  using enum KeyType;
  return {
      LimitKey(
          "max_connections", kInteger,
          [](T t) -> Field { return &t.cluster.router.limits.max_connections; },
          "Open client connections", 1, 1'000'000),
      LimitKey(
          "max_queued_requests", kInteger,
          [](T t) -> Field { return &t.cluster.router.limits.max_queued_requests; },
          "Requests in flight, of several API keys one at most half; beyond them the answer is 429",
          1, 1'000'000),
      LimitKey(
          "max_header", kBytes,
          [](T t) -> Field { return &t.cluster.router.limits.max_header_bytes; },
          "Bytes of a request's header", kKiB, kMiB),
      LimitKey(
          "max_body", kBytes, [](T t) -> Field { return &t.cluster.router.limits.max_body_bytes; },
          "Bytes of a request's body", kKiB, kGiB),
      LimitKey(
          "max_stream_buffer", kBytes,
          [](T t) -> Field { return &t.cluster.router.limits.max_stream_buffer_bytes; },
          "Unsent bytes of one reader; beyond them it is cut off", 4 * kKiB, kGiB),
      LimitKey(
          "header_timeout", kDuration,
          [](T t) -> Field { return &t.cluster.router.limits.header_timeout; },
          "For a request's header to arrive", kMillisecond, kHour),
      LimitKey(
          "body_timeout", kDuration,
          [](T t) -> Field { return &t.cluster.router.limits.body_timeout; },
          "For a request's body to arrive", kMillisecond, kHour),
      LimitKey(
          "idle_timeout", kDuration,
          [](T t) -> Field { return &t.cluster.router.limits.idle_timeout; },
          "Between two requests of a connection", kMillisecond, 24 * kHour),
      LimitKey(
          "slow_reader_timeout", kDuration,
          [](T t) -> Field { return &t.cluster.router.limits.slow_reader_timeout; },
          "A reader that takes no byte for this long is cut off", kMillisecond, kHour),
      LimitKey(
          "drain_timeout", kDuration,
          [](T t) -> Field { return &t.cluster.router.limits.drain_timeout; },
          "For streams in flight to end after SIGTERM", kMillisecond, 24 * kHour),
  };
}

std::vector<Key> LinkKeys() {
  return {
      {.section = "links",
       .name = "routers",
       .type = KeyType::kEndpoints,
       .field = [](T t) -> Field { return &t.cluster.links.routers; },
       .help = "Where workers meet the routers, an endpoint for each router: `tcp://host:port` or "
               "`ipc:///path`"},
      {.section = "links",
       .name = "runtime_dir",
       .type = KeyType::kFolder,
       .field = [](T t) -> Field { return &t.cluster.links.runtime_dir; },
       .help = "For the Unix sockets over which a group's ranks meet; made when absent"},
  };
}

std::vector<Key> LogKeys() {
  return {
      {.section = "log",
       .name = "level",
       .type = KeyType::kChoice,
       .field = [](T t) -> Field { return &t.cluster.log.level; },
       .help = "Least severe line that is written",
       .choices = {"trace", "debug", "info", "warn", "error"}},
      {.section = "log",
       .name = "format",
       .type = KeyType::kChoice,
       .field = [](T t) -> Field { return &t.cluster.log.format; },
       .help = "`json`: one object a line",
       .choices = {"text", "json"}},
  };
}

std::vector<Key> AllKeys() {
  std::vector<Key> all;
  for (const auto& part :
       {ModelKeys(), AliasKeys(), GroupShapeKeys(), GroupLimitKeys(), RouterKeys(),
        RouterLimitKeys(), AdmissionKeys(), LinkKeys(), LogKeys()}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

}  // namespace

const std::vector<Key>& Keys() {
  static const std::vector<Key> kKeys = AllKeys();
  return kKeys;
}

}  // namespace tandem::config
