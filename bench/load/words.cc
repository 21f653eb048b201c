#include "bench/load/words.h"

#include <array>
#include <string_view>

namespace tandem::load {
namespace {

// 256, so that a byte of chance chooses one.
constexpr std::array<std::string_view, 256> kWords = {
    "time",       "year",     "people",       "way",         "day",        "man",
    "thing",      "woman",    "life",         "child",       "world",      "school",
    "state",      "family",   "student",      "group",       "country",    "problem",
    "hand",       "part",     "place",        "case",        "week",       "company",
    "system",     "program",  "question",     "work",        "government", "number",
    "night",      "point",    "home",         "water",       "room",       "mother",
    "area",       "money",    "story",        "fact",        "month",      "lot",
    "right",      "study",    "book",         "eye",         "job",        "word",
    "business",   "issue",    "side",         "kind",        "head",       "house",
    "service",    "friend",   "father",       "power",       "hour",       "game",
    "line",       "end",      "member",       "law",         "car",        "city",
    "community",  "name",     "president",    "team",        "minute",     "idea",
    "kid",        "body",     "information",  "back",        "parent",     "face",
    "level",      "office",   "door",         "health",      "person",     "art",
    "war",        "history",  "party",        "result",      "change",     "text",
    "reason",     "research", "girl",         "code",        "moment",     "air",
    "teacher",    "force",    "education",    "foot",        "boy",        "age",
    "policy",     "music",    "market",       "sense",       "nation",     "plan",
    "college",    "interest", "death",        "experience",  "effect",     "use",
    "class",      "control",  "field",        "development", "role",       "file",
    "rate",       "heart",    "show",         "leader",      "light",      "voice",
    "wife",       "key",      "mind",         "price",       "report",     "decision",
    "son",        "view",     "relationship", "town",        "road",       "arm",
    "difference", "value",    "building",     "action",      "season",     "list",
    "tax",        "director", "position",     "player",      "record",     "paper",
    "space",      "ground",   "form",         "event",       "official",   "matter",
    "center",     "map",      "site",         "project",     "activity",   "star",
    "table",      "need",     "court",        "oil",         "user",       "cost",
    "industry",   "figure",   "street",       "image",       "phone",      "data",
    "picture",    "practice", "piece",        "land",        "product",    "doctor",
    "wall",       "patient",  "worker",       "news",        "test",       "movie",
    "north",      "love",     "support",      "technology",  "step",       "baby",
    "computer",   "type",     "attention",    "film",        "tree",       "source",
    "hair",       "window",   "evidence",     "culture",     "model",      "brother",
    "energy",     "period",   "course",       "summer",      "plant",      "object",
    "term",       "letter",   "condition",    "choice",      "rule",       "daughter",
    "south",      "string",   "floor",        "material",    "population", "call",
    "title",      "hospital", "church",       "risk",        "fire",       "future",
    "bank",       "west",     "link",         "board",       "subject",    "button",
    "rest",       "behavior", "performance",  "fight",       "top",        "goal",
    "second",     "bed",      "order",        "author",      "blood",      "agency",
    "nature",     "color",    "store",        "sound",       "movement",   "page",
    "race",       "node",     "series",       "language"};

}  // namespace

void AppendWords(std::string& text, Draws& draws, int64_t count) {
  uint32_t bits = 0;
  for (int64_t i = 0; i < count; ++i) {
    bits = i % 4 == 0 ? draws.Next() : bits >> 8;
    if (!text.empty()) text += ' ';
    text += kWords[bits & 255];
  }
}

}  // namespace tandem::load
