-- Redis runs Lua 5.1. Scripts are joined before they are loaded (`script` in service/jobs/scripts.py): what one lends to
-- the next is named here.
std = "lua51"
read_globals = { "redis", "cjson", "KEYS", "ARGV" }
max_line_length = 120

files["service/jobs/counting.lua"] = { read_globals = { "BOUNDS" }, ignore = { "241/counting" } }
files["service/jobs/allowance.lua"] = { ignore = { "241/allowance" } }
files["service/jobs/store.lua"] = { read_globals = { "counting", "allowance" } }
files["service/webhooks/deliveries.lua"] = { read_globals = { "counting" } }
