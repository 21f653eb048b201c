#include "router/http/pool.h"

#include <algorithm>
#include <random>
#include <utility>

#include "common/check.h"
#include "common/observe/log.h"

namespace tandem::http {
namespace {

std::unique_ptr<routing::Policy> PolicyOf(const std::string& name) {
  auto policy = routing::MakePolicy(name);
  TANDEM_CHECK(policy.ok()) << Message(policy.status());  // the cluster file lists the same names
  return *std::move(policy);
}

// The default deadline is the service's affair: a request that goes on to another model takes what
// is left of its own along.
routing::DispatcherOptions OptionsOf(const config::Admission& admission) {
  routing::DispatcherOptions options;
  options.max_queued = admission.max_queued;
  options.max_group_backlog = admission.max_group_backlog;
  return options;
}

}  // namespace

Pool::Pool(const ServedModel& model, const std::string& policy, const config::Admission& admission,
           Probe& probe)
    : model_(model),
      probe_(probe),
      series_(probe.AddPool(model.name)),
      policy_(policy),
      dispatcher_(OptionsOf(admission), PolicyOf(policy), std::random_device{}()) {
  FindMarks();
}

void Pool::FindMarks() {
  if (model_.chat_template == nullptr) return;
  const auto add = [&](std::string_view mark) {
    if (mark.empty()) return;
    const std::vector<TokenId> ids = model_.tokenizer->Encode(mark);
    if (ids.size() == 1 && model_.tokenizer->IsControl(ids[0])) mark_ids_.push_back(ids[0]);
  };
  const text::ReplySyntax& syntax = model_.chat_template->syntax();
  if (syntax.reasoning != nullptr) {
    add(syntax.reasoning->begin);
    add(syntax.reasoning->end);
  }
  num_reasoning_marks_ = mark_ids_.size();
  if (syntax.tools == nullptr) return;
  add(syntax.tools->begin);
  add(syntax.tools->end);
  if (!syntax.tools->named) return;
  add(text::kArgumentsMark);
  add(text::kCallIdMark);
}

bool Pool::ready() const {
  return std::any_of(groups_.begin(), groups_.end(),
                     [](const auto& entry) { return !entry.second.draining; });
}

bool Pool::memory_bounds_context() const {
  const int most = dispatcher_.max_context();
  return std::none_of(groups_.begin(), groups_.end(), [&](const auto& entry) {
    const routing::GroupInfo& info = entry.second.info;
    const int64_t blocks = int64_t{info.num_blocks} * info.block_size;
    return !entry.second.draining && info.max_context == most && (blocks == 0 || blocks > most);
  });
}

bool Pool::IsUp(const std::string& name) const {
  return std::any_of(groups_.begin(), groups_.end(),
                     [&](const auto& entry) { return entry.second.info.name == name; });
}

const Pool::Group* Pool::Find(GroupId group) const {
  const auto it = groups_.find(group.value);
  return it == groups_.end() ? nullptr : &it->second;
}

void Pool::GroupUp(routing::GroupInfo info, Nanos now) {
  observe::LogEvent(observe::LogLevel::kInfo, "group up",
                    {{"group", info.name},
                     {"model", info.model},
                     {"tp", info.tp},
                     {"dtype", info.dtype},
                     {"device", info.device_class},
                     {"context", info.max_context},
                     {"blocks", info.num_blocks}});
  // One sequence cannot be longer than the whole pool of blocks.
  const int64_t blocks = int64_t{info.num_blocks} * info.block_size;
  if (blocks > 0) info.max_context = static_cast<int>(std::min<int64_t>(info.max_context, blocks));
  probe_.GroupUp(info.name, true);
  down_why_.erase(info.name);
  dispatcher_.GroupUp(info, now);
  Group group;
  group.info = std::move(info);
  group.series = probe_.AddGroup(group.info.name);
  group.load.total_blocks = group.load.free_blocks = group.info.num_blocks;
  groups_.insert_or_assign(group.info.id.value, std::move(group));
}

void Pool::GroupDraining(GroupId id) {
  Group& group = groups_.at(id.value);
  group.draining = true;
  dispatcher_.GroupDraining(id);
  probe_.GroupUp(group.info.name, false);
  observe::LogInfo("group '{}' is draining", group.info.name);
}

std::vector<routing::Attempt> Pool::GroupLost(GroupId id, const std::string& reason) {
  const std::string name = groups_.at(id.value).info.name;
  const bool draining = groups_.at(id.value).draining;
  groups_.erase(id.value);
  std::vector<routing::Attempt> attempts = dispatcher_.GroupLost(id);
  if (!IsUp(name)) {  // a new incarnation may be up already
    if (forgotten_.count(name) == 0)
      down_why_[name] = (draining ? "has left: " : "was lost: ") + reason;
    probe_.GroupUp(name, false);
  }
  const bool planned = draining && attempts.empty();
  observe::LogEvent(
      planned ? observe::LogLevel::kInfo : observe::LogLevel::kError,
      planned ? "group left" : "group lost",
      {{"group", name}, {"reason", reason}, {"attempts", static_cast<int64_t>(attempts.size())}});
  return attempts;
}

bool Pool::Report(routing::StepReport& report) {
  const auto it = groups_.find(report.group.value);
  if (it == groups_.end()) return false;
  const int64_t gaps = dispatcher_.num_event_gaps();
  dispatcher_.OnReport(report);
  if (dispatcher_.num_event_gaps() > gaps) probe_.KvEventGap();
  Probe::Step(it->second.series, report.load);
  it->second.load = std::move(report.load);
  return true;
}

void Pool::Expect(const std::string& name) {
  forgotten_.erase(name);
  if (IsUp(name) || !down_why_.emplace(name, "has not connected yet").second) return;
  probe_.GroupUp(name, false);
}

void Pool::ForgetAllBut(const std::vector<std::string>& names) {
  for (const auto& [id, group] : groups_) {
    if (std::find(names.begin(), names.end(), group.info.name) == names.end()) {
      forgotten_.insert(group.info.name);
    }
  }
  std::erase_if(down_why_, [&](const auto& entry) {
    return std::find(names.begin(), names.end(), entry.first) == names.end();
  });
}

void Pool::SetPolicy(const std::string& name) {
  if (name == policy_) return;  // it has learned something
  policy_ = name;
  dispatcher_.SetPolicy(PolicyOf(name));
}

void Pool::SetAdmission(const config::Admission& admission) {
  dispatcher_.SetOptions(OptionsOf(admission));
}

}  // namespace tandem::http
