#include "router/text/jinja_filters.h"

#include <string>
#include <unordered_map>

namespace tandem::text {

const JinjaFilter* FindFilter(std::string_view name) {
  static const auto* filters = [] {
    auto* map = new std::unordered_map<std::string_view, const JinjaFilter*>;  // lives for ever
    for (const auto& part : {TextFilters(), NumberFilters(), ListFilters(), SelectionFilters()}) {
      for (const JinjaFilter& filter : part) map->emplace(filter.name, &filter);
    }
    return map;
  }();
  const auto it = filters->find(name);
  return it == filters->end() ? nullptr : it->second;
}

}  // namespace tandem::text
