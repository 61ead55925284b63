-- The counts of a run of wrk as one line of JSON: the text that wrk prints is rounded.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"bytes":%d,"p99_us":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
