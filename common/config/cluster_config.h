// The cluster file: one YAML that describes models, groups, router and links, read by every
// process. docs/cluster_file.md is its reference.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/status.h"

namespace tandem::config {

struct Model {
  std::string name;              // what clients say in "model"
  std::string path;              // of the GGUF file; in the file relative to it, here absolute
  int max_context = 0;           // 0: the model's own
  std::string pooling = "last";  // last | mean: what its embeddings are made of
};

// One replica. An entry of the file with a count is as many of these.
struct Group {
  std::string name;   // "sim-3" of the entry "sim" with a count, else the entry's
  std::string entry;  // name of its entry
  int count = 1;      // groups of its entry
  std::string model;  // the name of one of Cluster::models
  int tp = 1;         // ranks (processes)
  // Where rank i runs, or all of them: an address or a name; empty: wherever it is started.
  std::vector<std::string> hosts;
  int rendezvous_port = 0;     // ranks meet over TCP, at this port of hosts[0]; 0: on one machine
  int threads = 0;             // of each rank; 0 (auto): a share of the CPUs
  std::string pin = "auto";    // auto | off: threads to CPUs
  std::string device = "cpu";  // cpu | cuda | sim
  std::string profile;         // device sim: path of a device profile; absolute
  std::vector<int> devices;    // device cuda: GPU of each rank; empty: its place on its machine
  bool cuda_graphs = true;     // device cuda
  bool peer_memory = true;     // device cuda: where the driver says that there is some
  // Of the whole group, split over its ranks; 0 (auto): what is free, device cuda only.
  int64_t kv_memory_bytes = 256 << 20;
  int block_size = 16;        // tokens; a multiple of 16
  int max_step_tokens = 256;  // token budget of a step
  // What prompts may make a step with decodes take; 0: any. Another default on a GPU and with sim.
  Nanos max_step_time = 16 * kMillisecond;
  int max_seqs = 64;
  std::string activation_dtype = "int8";  // int8 | bf16 | f32; device cuda: bf16 | f16
  std::string kv_cache_dtype = "bf16";    // bf16 | int8 | f32; device cuda: the activations'
  std::string instruction_set = "auto";   // auto, or a name of kernels/cpu/instruction_sets.h
  Nanos min_watchdog = 5 * kSecond;       // a step may take max(this, 10 x predicted)
};

// One model that an alias may resolve to, and the requests it takes there.
struct AliasChoice {
  std::string model;          // the name of one of Cluster::models
  int max_prompt_tokens = 0;  // longer prompts go on to the next choice; 0: any length
  Nanos max_ttft = 0;         // so do those whose first token is predicted to take longer; 0: any
  int share = 100;            // percent of the requests that come this far; the rest goes on
};

// A name that clients may say in "model" besides those of models.
struct Alias {
  std::string name;
  std::vector<AliasChoice> choices;  // at least one; the last takes what is left
};

struct RouterLimits {
  int max_connections = 4096;
  int max_header_bytes = 16 << 10;
  int64_t max_body_bytes = 8 << 20;
  Nanos header_timeout = 10 * kSecond;
  Nanos body_timeout = 30 * kSecond;
  Nanos idle_timeout = 75 * kSecond;          // keep-alive
  int64_t max_stream_buffer_bytes = 1 << 20;  // unsent SSE bytes of one slow reader
  Nanos slow_reader_timeout = 30 * kSecond;   // no byte taken for this long
  int max_queued_requests = 1024;             // in flight per model; beyond: 429
  Nanos drain_timeout = 60 * kSecond;         // streams in flight after SIGTERM
};

// When a request waits in the router and when it is refused.
struct Admission {
  Nanos max_group_backlog = 8 * kSecond;  // a group with more prompt work takes nothing new
  int max_queued = 1024;                  // waiting in the router, for each model
  Nanos ttft_deadline = 0;                // of requests that name none; 0: none
  std::string highest_priority = "high";  // that clients may ask for: low | normal | high
};

struct Router {
  std::string listen_host = "127.0.0.1";
  int listen_port = 8000;
  std::string api_keys_file;  // one key a line, '#' comments; empty: no authentication
  int text_threads = 1;       // tokenize long prompts beside the I/O thread
  std::string policy = "ttft";
  std::string session_header;  // whose value is a session; empty: the prompt's beginning is
  std::string record_trace;    // file to which arrivals are appended; empty: none
  RouterLimits limits;
  Admission admission;
};

struct Links {
  // ZeroMQ endpoints that routers bind and workers dial; router i binds routers[i].
  std::vector<std::string> routers = {"tcp://127.0.0.1:8100"};
  // Folder for the Unix sockets over which a group's ranks meet on one machine.
  std::string runtime_dir = "/tmp/tandem";
};

struct Log {
  std::string level = "info";   // trace | debug | info | warn | error
  std::string format = "text";  // text | json
};

struct Cluster {
  std::string file;           // path it was read from
  std::vector<Model> models;  // at least one; names differ, also from those of aliases
  std::vector<Group> groups;
  std::vector<Alias> aliases;
  Router router;
  Links links;
  Log log;
  const Group* FindGroup(const std::string& name) const;  // null: there is none
  // Those of an entry, or the one of this name, in the file's order; empty: there is none.
  std::vector<const Group*> GroupsOf(const std::string& name) const;
  // "g0, sim-0 to sim-63": for errors.
  std::string GroupNames() const;
  const Model* FindModel(const std::string& name) const;
  const Model& ModelOf(const Group& group) const;
};

// What a process's command line says, before what the file says.
struct Overrides {
  // --model; relative to the working directory; empty: as in the file. A mistake where the file
  // has several models.
  std::string model_path;
  int listen_port = -1;  // --port; 0: any that is free; -1: as in the file
};

// Reads and validates. On failure (kInvalidArgument, the operator's: exit 2) the message holds
// every mistake found, one a line, sorted, each `file:line:column: what is wrong; what would be
// right`.
StatusOr<Cluster> Load(const std::string& path, const Overrides& overrides = {});

// The same without looking whether the files it names exist. `path` is what messages say and what
// relative paths start from.
StatusOr<Cluster> Parse(const std::string& yaml, const std::string& path,
                        const Overrides& overrides = {});

// Keys whose values differ and that a running router does not read again, like
// "router.listen"; none: `after` can take the place of `before` at once.
std::vector<std::string> NeedRestart(const Cluster& before, const Cluster& after);

// What the file says of a group, defaults too, on one line: differs when the group differs.
std::string SettingsOf(const Group& group);

// Every key with its type, range, default and meaning, as the tables of docs/cluster_file.md.
std::string Reference();

}  // namespace tandem::config
