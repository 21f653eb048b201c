// The half of Reader that knows of groups whose ranks are on named hosts, maybe on several.
#include <algorithm>

#include "common/config/reader.h"
#include "common/config/values.h"

namespace tandem::config {

void Reader::SetHosts(const YamlNode& node, const std::string& path,
                      std::vector<std::string>* field) {
  if (node.kind != YamlNode::Kind::kList || node.items.empty()) {
    Add(node.at,
        fmt::format("'{}' is {}; a list of hosts like [10.0.0.1, 10.0.0.2]", path,
                    node.kind == YamlNode::Kind::kList ? "an empty list" : KindText(node)));
    return;
  }
  field->clear();
  for (const YamlNode& item : node.items) {
    const Status status = CheckHost(item.text);
    if (!status.ok()) {
      Add(item.at, fmt::format("'{}[{}]': {}", path, field->size(), Message(status)));
    }
    field->push_back(item.text);
  }
}

void Reader::CheckHosts(const YamlNode& node, const Group& group, const std::string& path) {
  const YamlNode* hosts = FindValue(node, "hosts");
  const YamlNode* port = FindValue(node, "rendezvous_port");
  if (group.hosts.empty()) {
    if (hosts != nullptr || group.rendezvous_port == 0) return;  // broken, or of no interest
    Add(port->at, fmt::format("'{}.rendezvous_port' is a port of the first of 'hosts', which are "
                              "missing; a list like [10.0.0.1, 10.0.0.2]",
                              path));
    return;
  }
  if (group.hosts.size() != 1 && group.hosts.size() != static_cast<size_t>(group.tp)) {
    Add(hosts->at, fmt::format("'{}.hosts' are {}, and tp is {}; one for each rank, or a single "
                               "one for all",
                               path, group.hosts.size(), group.tp));
  }
  const bool several = std::any_of(group.hosts.begin(), group.hosts.end(),
                                   [&](const auto& host) { return host != group.hosts[0]; });
  if (several && group.rendezvous_port == 0) {
    Add(hosts->at, fmt::format("'{}.hosts' are several, and there is no 'rendezvous_port'; a port "
                               "of {} where the ranks meet, like 8200",
                               path, group.hosts[0]));
  }
  if (group.rendezvous_port == 0) return;
  if (group.count > 1) {
    Add(port->at, fmt::format("'{}' is {} groups that would all meet at one port; an entry for "
                              "each group",
                              path, group.count));
  } else if (!rendezvous_.insert(fmt::format("{} {}", group.hosts[0], group.rendezvous_port))
                  .second) {
    Add(port->at, fmt::format("'{}.rendezvous_port' is {}, as another group's on {}; a port of its "
                              "own",
                              path, group.rendezvous_port, group.hosts[0]));
  }
}

}  // namespace tandem::config
