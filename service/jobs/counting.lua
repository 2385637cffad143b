-- How scripts add to the running totals, as service/jobs/metrics.py reads them. Goes between `BOUNDS` and a script.

local counting = {}

-- `counters`: key of the totals. `field`: a counter's name with its labels.
function counting.count(counters, field)
  redis.call('HINCRBYFLOAT', counters, field, 1)
end

-- One observation of a histogram. `labels`: as they stand between the braces.
function counting.observe(counters, name, labels, seconds)
  local within = '+Inf'
  for _, bound in ipairs(BOUNDS[name]) do
    if seconds <= tonumber(bound) then
      within = bound
      break
    end
  end
  redis.call('HINCRBYFLOAT', counters, name .. '_le{' .. labels .. ',le="' .. within .. '"}', 1)
  redis.call('HINCRBYFLOAT', counters, name .. '_sum{' .. labels .. '}', string.format('%.6f', seconds))
end

