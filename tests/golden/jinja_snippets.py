"""Small templates, one feature or corner each, for comparison with Python's jinja2."""

VARIABLES = {
    "x": "ex", "empty": "", "n": 7, "f": 2.5, "yes": True, "nothing": None, "u": "Größe 日本 \u2028 ß",
    "list": ["a", "b", "c"], "numbers": [3, 1, 2, 2.0, -1], "map": {"key": "value", "b": 2, "A": 1},
    "people": [{"name": "Bo", "age": 9, "pet": {"kind": "cat"}}, {"name": "al", "age": 30},
               {"name": "Cy", "age": 9, "pet": {"kind": "dog"}}],
    "text": "  The quick\tbrown fox\nlazy dog \r\nend  ", "schema": {"items": {"type": "int"}, "get": 1},
    "nested": {"a": [1, [2, {"b": None}]], "c": True}, "html": "<b a=\"1\">&'</b>",
}

EXPRESSIONS = r"""
x ~ n ~ f ~ yes ~ nothing ~ missing
1 + 2 * 3 - 4 / 2
7 // 2 ~ '|' ~ -7 // 2 ~ '|' ~ 7 % 3 ~ '|' ~ -7 % 3 ~ '|' ~ 7 % -3 ~ '|' ~ 7.5 // 2 ~ '|' ~ -7.5 % 2
2 ** 10 ~ '|' ~ 2 ** -1 ~ '|' ~ 2.0 ** 3 ~ '|' ~ -2 ** 2
1 / 0
1 // 0
1 % 0
1.0 / 3
1e16 ~ '|' ~ 1e15 ~ '|' ~ 123456789.125 ~ '|' ~ 1e-4 ~ '|' ~ 1e-5 ~ '|' ~ 0.1 + 0.2 ~ '|' ~ 1e100 ~ '|' ~ -0.0
1_000 + 1
(true + true) ~ '|' ~ true * 'ab' ~ '|' ~ 3 * 'ab' ~ '|' ~ 'ab' * 0 ~ '|' ~ -1 * [1] ~ [1] * 2
[1, 2] + [3] * 2
(1, 2) + (3,)
[1] + (2,)
'a' + 1
'a' 'b' "c"
(1 < 2 < 3) ~ '|' ~ (1 < 2 > 3) ~ '|' ~ (1 < 2 == 2 != 3)
'a' < 'b' ~ '|' ~ ([1, 2] < [1, 3]) ~ '|' ~ (1 < 2.5) ~ '|' ~ ('b' <= 'b')
1 < 'a'
none < 1
1 == 1.0 ~ '|' ~ (true == 1) ~ '|' ~ ('1' == 1) ~ '|' ~ ([1] == (1,)) ~ '|' ~ (none == missing) ~ '|' ~ (missing == gone)
{'a': 1, 'b': [2]} == {'b': [2], 'a': 1}
'a' in list ~ '|' ~ ('z' not in list) ~ '|' ~ ('x' in x) ~ '|' ~ ('key' in map) ~ '|' ~ (1 in map) ~ '|' ~ (1 in missing)
1 in 'abc'
1 in n
not x ~ '|' ~ (not missing) ~ '|' ~ (x and n) ~ '|' ~ (empty or nothing) ~ '|' ~ (empty or 0 or 'last')
'yes' if n > 3 else 'no'
'yes' if n > 30
(1 if missing else 2 if empty else 3)
[1, 2, 3][1] ~ list[-1] ~ list[5] ~ list[-9] ~ x[0] ~ x[-1] ~ u[8] ~ u[-1]
list[1:] ~ list[:-1] ~ list[::-1] ~ list[::2] ~ list[-2:] ~ list[5:] ~ list[2:0:-1]
x[1:] ~ '|' ~ u[::-1] ~ '|' ~ u[2:4] ~ '|' ~ u[-3:] ~ '|' ~ 'abcdef'[4:1:-2] ~ '|' ~ 'abc'[10:]
list[::0]
list['a':]
(1, 2, 3)[1:]
n[1:]
map[1:]
missing[1:]
map.key ~ map['key'] ~ map.gone ~ map['gone'] ~ nested.a[1][1].b ~ nested['a'].0
missing.a
missing['a']
map.gone.more
x.gone ~ n.gone ~ nothing.gone ~ list.gone
schema.items is mapping ~ '|' ~ (schema['items'] is mapping) ~ '|' ~ schema.get('get') ~ '|' ~ (schema.keys is defined) ~ '|' ~ (schema.pop is defined) ~ '|' ~ (schema['values'] is defined)
[1, 2.0, true, none, 'it\'s', "q\"", 'b\\', {'a': (1,)}, (), (1, 2), [], {}]
{'a\nb': 'tab\t\x01\u00e9\u2028\u200b\U0001f600\xad', 'k': "both ' and \""}
{1: 'a', none: 'b', true: 'c'}
{1: 'a', 'x': 2}[1] ~ {1: 'a'}.get(1) ~ {1: 2}|tojson
{'a': 1, 'a': 2, 'b': 3}
'\x41\u00e9\101\q\
z' ~ '\n\t\r\\\''
nested ~ '' ~ people
u
range(3)|list ~ range(2, 5)|list ~ range(5, 0, -2)|list ~ range(0)|list ~ range(3)|length ~ range(3)[1]
range(1.5)
range(1, 2, 0)
range(100001)|length
dict(a=1, b='x') ~ dict({'a': 1}, b=2) ~ dict([('a', 1)])
namespace(a=1).a ~ namespace(a=1).b ~ namespace({'c': 3}).c
namespace(_a=1)
missing()
x()
x.nothing()
map.update({'a': 1})
list.append(1)
list.pop()
raise_exception('No: ' ~ n)
raise_exception()
strftime_now('%Y-%m-%d %H:%M:%S %d %b %B %A %%')
strftime_now('')
' pad '.strip() ~ '|' ~ 'xxaxx'.strip('x') ~ '|' ~ 'xxa'.lstrip('x') ~ '|' ~ 'axy'.rstrip('yx') ~ '|' ~ '\u3000\xa0a\x1f\x85'.strip() ~ '|'
text.split() ~ text.split(none, 1) ~ 'a,b,,c'.split(',') ~ 'a,b,c'.split(',', 1) ~ ''.split(',') ~ ''.split() ~ 'aXXbXXc'.split('XX', maxsplit=1)
'a,b,c'.rsplit(',', 1) ~ text.rsplit(none, 1) ~ 'aaa'.rsplit('aa') ~ 'a'.rsplit(',')
'a'.split('')
text.splitlines() ~ 'a\n\nb\n'.splitlines() ~ 'a\nb'.splitlines(true) ~ ''.splitlines()
'a=b=c'.partition('=') ~ 'a=b=c'.rpartition('=') ~ 'abc'.partition('=') ~ 'abc'.rpartition('=')
x.startswith('e') ~ x.endswith(('q', 'x')) ~ x.startswith('') ~ x.endswith('ex!') ~ x.startswith(('a', 'b'))
x.startswith(1)
'aXbX'.replace('X', '--') ~ 'aXbX'.replace('X', '', 1) ~ 'abc'.replace('', '.') ~ u.replace('', '-') ~ 'aaa'.replace('aa', 'b')
'abcabc'.find('c') ~ 'abc'.find('z') ~ 'abcabc'.rfind('b') ~ u.find('日') ~ 'abcabc'.count('bc') ~ 'abc'.index('b') ~ 'aaa'.count('') ~ u.rfind('')
'abc'.index('z')
'-'.join(list) ~ ''.join([]) ~ ', '.join(map.keys()) ~ '+'.join('abc')
'-'.join([1])
'hElLo wORLD it\'s'.title() ~ 'hELLO Wo'.capitalize() ~ 'aB'.upper() ~ 'aB'.lower() ~ u.upper()[:5] ~ 'ÄÖ'.lower() ~ ' a'.capitalize()
'ab'.isalpha() ~ 'a1'.isalnum() ~ '12'.isdigit() ~ ' \t'.isspace() ~ 'aB'.islower() ~ 'AB1'.isupper() ~ ''.isalpha() ~ 'é'.isalpha() ~ '1'.islower()
'{} and {}'.format(1, 'b') ~ '{1}{0}'.format('a', 'b') ~ '{k}'.format(k=none) ~ '{{}}'.format() ~ '<{}>'.format([1])
'{}'.format()
'{'.format()
'abc'.removeprefix('a') ~ 'abc'.removesuffix('c') ~ 'abc'.removeprefix('z')
map.get('key') ~ map.get('gone') ~ map.get('gone', 'd') ~ map.get('gone', none) ~ map.get(1)
map.get()
map.items()|list ~ map.keys()|list ~ map.values()|list ~ (map.items()|length)
map.items() is sequence ~ '|' ~ (map.items() is iterable) ~ '|' ~ ('key' in map.keys()) ~ '|' ~ (map.keys() == map.keys())
list.index('b') ~ list.count('a') ~ (1, 1).count(1)
list.index('z')
text|trim ~ '|' ~ 'xax'|trim('x') ~ '|' ~ 5|trim ~ '|' ~ missing|trim
x|upper ~ 'ABC'|lower ~ 'hello wORLD-a (bc) [d'|title ~ 'hELLO'|capitalize ~ n|upper ~ true|lower ~ missing|upper
list|length ~ x|length ~ u|length ~ map|length ~ missing|length ~ 'abc'|count
n|length
list|join(', ') ~ numbers|join ~ people|join('+', attribute='name') ~ 'abc'|join('.') ~ missing|join ~ [none, true]|join('|')
missing|default('d') ~ empty|default('d') ~ empty|default('d', true) ~ nothing|default('d') ~ missing|default ~ missing|d(1) ~ false|default('d', boolean=true)
list|first ~ list|last ~ []|first ~ 'abc'|last ~ map|first ~ missing|first ~ (numbers|select('odd')|first)
numbers|map('abs')|last
numbers|sort ~ numbers|sort(reverse=true) ~ ['b', 'A', 'c']|sort ~ ['b', 'A', 'c']|sort(case_sensitive=true) ~ people|sort(attribute='age')|map(attribute='name')|list ~ people|sort(attribute='age,name')|map(attribute='name')|list
[1, 'a']|sort
people|sort(attribute='pet.kind')
map|dictsort ~ map|dictsort(true) ~ {'a': 2, 'b': 1}|dictsort(by='value') ~ map|dictsort(reverse=true)
map|dictsort(by='value')
map|items|list ~ missing|items|list ~ schema|items|first
nothing|items|list
list|reverse|list ~ 'abc'|reverse ~ (map|reverse|list)
list|reverse|length
numbers|map('string')|join(',') ~ list|map('upper')|list ~ people|map(attribute='age')|sum
people|map(attribute='pet.kind')|list
people|map(attribute='pet', default='none')|list ~ [' a']|map('replace', 'a', 'b')|map('trim')|list ~ [3.7]|map('int')|list
people|selectattr('age', 'equalto', 9)|map(attribute='name')|list ~ people|rejectattr('age', 'gt', 10)|list|length ~ people|selectattr('pet')|list|length ~ people|selectattr('pet', 'defined')|list|length ~ people|selectattr('name', 'in', ['Bo'])|list|length
numbers|select|list ~ numbers|select('odd')|list ~ numbers|reject('lessthan', 2)|list ~ [none, 1]|select('none')|list ~ nothing|select|list
'T' if people|selectattr('age', 'gt', 99) else 'F'
numbers|unique|list ~ ['a', 'A', 'b']|unique|list ~ ['a', 'A']|unique(case_sensitive=true)|list
numbers|min ~ numbers|max ~ []|min ~ ['b', 'A']|min ~ people|max(attribute='age') ~ numbers|sum ~ [[1], [2]]|sum(start=[])
[1, 2, 3, 4, 5]|batch(2)|list ~ [1, 2, 3]|batch(2, 'x')|list
'3'|int ~ '3.7'|int ~ 'x'|int ~ 'x'|int(5) ~ ' 12 '|int ~ 4.9|int ~ -4.9|int ~ true|int ~ nothing|int ~ '0x1f'|int(0, 16) ~ '1_0'|int ~ '1e3'|int ~ '-'|int
'3.5'|float ~ 'x'|float ~ 3|float ~ 'x'|float(1.5) ~ ' 1e3 '|float ~ ('inf' ~ empty)|float ~ '.5'|float ~ nothing|float
missing|int
2.5|round ~ 3.5|round ~ 2.567|round(2) ~ 2.561|round(2, 'ceil') ~ 2.569|round(2, 'floor') ~ 7|round ~ 0.285|round(2) ~ 1234.5|round(-2)
-3|abs ~ -2.5|abs
'x'|abs
'aXbX'|replace('X', '-') ~ 'aXbX'|replace('X', '-', 1) ~ 112|replace(1, 'x')
'a\nb\n\nc'|indent ~ 'a\nb'|indent(2, true) ~ 'a\n\nb'|indent(1, blank=true) ~ 'a\nb'|indent('> ') ~ ''|indent
nested|tojson ~ x|tojson ~ u|tojson ~ f|tojson ~ nothing|tojson ~ yes|tojson ~ (1, 2)|tojson ~ []|tojson ~ {}|tojson
nested|tojson(indent=2) ~ [[], {}, [1]]|tojson(indent=4) ~ {'b': 1, 'a': 2}|tojson(sort_keys=true) ~ [1, {'a': 2}]|tojson(separators=(',', ':')) ~ nested|tojson(indent=0)
u|tojson(ensure_ascii=true) ~ '😀\x7f\x00\x1f"\\/<>&\''|tojson ~ '😀'|tojson(true) ~ 1e22|tojson ~ -1e-7|tojson ~ 12345678901234567|tojson ~ ('inf' ~ empty)|float|tojson
missing|tojson
[missing]|tojson
map.items()|tojson
namespace(a=1)|tojson
x|string ~ n|string ~ nothing|string ~ [1]|string
html|safe ~ html|e ~ html|escape|upper ~ ('<'|safe + '<' + '>') ~ ('<' + '>'|safe) ~ ('<'|safe ~ '<')
x is defined ~ missing is defined ~ missing is undefined ~ missing is not defined ~ map.gone is defined
nothing is none ~ missing is none ~ x is string ~ n is string ~ map is mapping ~ list is mapping
list is sequence ~ x is sequence ~ map is sequence ~ missing is sequence ~ n is sequence ~ range(2) is sequence
list is iterable ~ x is iterable ~ n is iterable ~ missing is iterable ~ (list|map('upper')) is iterable
n is number ~ f is number ~ yes is number ~ n is integer ~ yes is integer ~ f is integer ~ f is float ~ n is float
yes is boolean ~ n is boolean ~ yes is true ~ yes is false ~ 1 is true ~ (1 == 1) is true
n is odd ~ n is even ~ 6 is divisibleby 3 ~ 6 is divisibleby(4) ~ n is not even
n is eq 7 ~ n is equalto(8) ~ n is ne 8 ~ n is gt 3 ~ n is ge 7 ~ n is lt 3 ~ n is le 7 ~ 'a' is in list ~ 'z' is not in list
x is lower ~ 'AB' is upper ~ x is sameas x ~ none is sameas none ~ raise_exception is callable ~ x is callable ~ 'upper' is filter ~ 'even' is test
x is odd
not x is defined and n
-n|abs ~ -(3) ~ +3 ~ - -3 ~ +yes
-x
x|default('a')|upper ~ (n - 2)|string + 'q'
n * '-' ~ '=' * 3
{'a': 1}.items()|list|length
[1, 2,] ~ (1,) ~ {'a': 1,}
9223372036854775807 ~ -9223372036854775807
loop is defined
(-9223372036854775807 - 1) % 3 ~ '|' ~ 'a,b'.split(',', -9223372036854775807 - 1) ~ ' a b '.split(none, 0) ~ ' a b '.rsplit(none, 0) ~ 'aa'.replace('a', 'b', -5)
""".strip("\n").split("\n")

TEMPLATES = [
    "{% for i in list %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}"
    "{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.depth }}|{% endfor %}",
    "{% for i in list %}{{ loop.cycle('x', 'y') }}{{ loop.changed(i) }}{{ loop.changed(1) }}{% endfor %}",
    "{% for i in [] %}a{% else %}none{% endfor %}{% for i in list if i == 'z' %}a{% else %}none{% endfor %}",
    "{% for i in numbers if i > 1 %}{{ i }}{{ loop.index }}{{ loop.last }} {% endfor %}",
    "{% for i in numbers %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}!",
    "{% for i in numbers %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% for j in list %}{% if j == 'b' %}{% break %}{% endif %}{{ j }}{% endfor %}{% endfor %}",
    "{% for k, v in map.items() %}{{ k }}={{ v }};{% endfor %}{% for k in map %}{{ k }}{% endfor %}",
    "{% for (a, b) in [(1, 2), [3, 4]] %}{{ a }}{{ b }}{% endfor %}{% for a, b in ['xy'] %}{{ b }}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "{% for c in u %}{{ c }}.{% endfor %}{% for i in missing %}x{% endfor %}",
    "{% for i in nothing %}x{% endfor %}",
    "{% for i in n %}x{% endfor %}",
    "{% for i in 1, 2 %}{{ i }}{% endfor %}{{ 1, 2 }}{% set t = 1, 'a' %}{{ t }}",
    "{% set y = 0 %}{% for i in list %}{{ y }}{% set y = 5 %}{{ y }}{% endfor %}{{ y }}{{ i }}",
    "{% set ns = namespace(n=0, found=false) %}{% for i in list %}{% set ns.n = ns.n + 1 %}{% set ns.last = i %}{% endfor %}{{ ns.n }}{{ ns.last }}{{ ns.found }}",
    "{% set map.x = 1 %}",
    "{% set missing.x = 1 %}",
    "{% set a, b = list[:2] %}{{ a }}{{ b }}{% set (c, d) = (1, 2) %}{{ c }}{{ d }}",
    "{% set a, b = list %}",
    "{% set b %}  {{ x }} <b>\n{% endset %}[{{ b }}]{{ b|length }}",
    "{% set b | trim | upper %}  {{ x }} {% endset %}[{{ b }}]",
    "{% filter upper %}a{{ x }}{% endfilter %}{% filter replace('a', 'b') | trim %} aa {% endfilter %}",
    "{% with a = 1, b = x %}{{ a }}{{ b }}{% set a = 2 %}{{ a }}{% endwith %}{{ a }}",
    "{% macro f(a, b=2, c=a) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(b=5, a=4) }}{{ f() }}{{ f(1, c=none) }}",
    "{% macro f(a) %}{{ a }}{{ x }}{{ late }}{% endmacro %}{% set late = 'L' %}{{ f(1) }}{% for x in list %}{{ f(x) }}{% endfor %}",
    "{% macro f(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, 3, k=4) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(q=2) }}",
    "{% macro r(v) %}{% if v is mapping %}{ {%- for k in v %}{{ k }}:{{ r(v[k]) }},{% endfor -%} }{% elif v is iterable and v is not string %}[{% for i in v %}{{ r(i) }} {% endfor %}]{% else %}{{ v }}{% endif %}{% endmacro %}{{ r(nested) }}",
    "{% macro wrap(tag) %}<{{ tag }}>{{ caller() }}</{{ tag }}>{% endmacro %}{% call wrap('b') %}in {{ x }}{% endcall %}",
    "{% macro each(items) %}{% for i in items %}{{ caller(i, loop.index) }}{% endfor %}{% endmacro %}{% call(a, b) each(list) %}{{ a }}{{ b }};{% endcall %}",
    "{% macro f() %}{% set q = 1 %}{{ q }}{% endmacro %}{{ f() }}{{ q }}{{ f is callable }}{{ f.name }}",
    "{% macro f() %}x{% endmacro %}{{ f() + f() }}{{ f()|upper }}{{ f() is string }}",
    "{% if x %}{% set z = 1 %}{% endif %}{{ z }}{% if missing %}{% elif n == 7 %}seven{% else %}no{% endif %}",
    "{% set it = list|map('upper') %}{{ it|join }}-{{ it|join }}{% if it %}T{% endif %}",
    "{% set loop_outer = 1 %}{% for a in list %}{% set o = loop %}{% for b in list %}{{ o.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for m in list %}{% generation %}{% set g = m %}{{ g }}{% endgeneration %}{{ g }}{% endfor %}",
    "{% raw %}{{ x }} {% if %} {# #}{% endraw %}|  {%- raw -%}  a {%- endraw -%}  |",
    "  {% raw %}\n a {% endraw %}\n b",
    "a\n  {% if yes %}\n  b\n\t{% endif %}\n\nc\n",
    "a \n {%- if yes -%} \n b {%- endif %} c {{- x -}}\n d {{ x }}\ne",
    "  {%+ if yes +%}\nb{% endif %}\n  {# note #}\nb {#- c -#} \n d\n",
    "{% if yes %}  {% endif %}  {% if yes %}|{% endif %}\u00a0{%- if yes %}x{% endif -%}\u3000y",
    "a\r\nb\rc\n\n", "{{ x }}\n  {{ x }}\n", "{#-#}a{# b #}\n{##}c{#- d +#}\n", "{{ {'a': {'b': 1}} }}{{'}}'}}{{ \"%}\" }}",
    "{% set x = x ~ '!' %}{{ x }}{% for i in [1] %}{% set x = x ~ '?' %}{{ x }}{% endfor %}{{ x }}",
    "{%- for m in people %}\n  {%- if loop.first %}\n    {{- m.name }}\n  {%- endif %}\n{%- endfor %}\nend",
    "{% for i in range(3) %}{% for j in range(i) %}{{ i }}{{ j }} {% endfor %}{% endfor %}",
    "{{ x if x is defined and x is string else 'no' }}{{ 'a' if x is not none }}",
    "{% macro f(x) %}{% for i in list %}{{ x }}{{ i }}{% endfor %}{% endmacro %}{% for i in [1, 2] %}{{ f(i) }}{% endfor %}",
    "{% for i in list %}{% macro g() %}{{ i }}{% endmacro %}{{ g() }}{% endfor %}",
]
