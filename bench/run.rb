# frozen_string_literal: true

# The program behind bin/bench: runs each benchmark in a process of its own, so that none feels what another has loaded.

require "json"
require "optparse"
require "rbconfig"
require "tempfile"

folder = __dir__
known = Dir.children(folder).grep(/\.rb\z/).map { |file| file.delete_suffix(".rb") }.sort - %w[run support]
json = nil
quick = false
names = OptionParser.new("Usage: bin/bench [NAME...] [--json FILE] [--quick]\nNames: #{known.join(', ')}") do |options|
  options.on("--json FILE", "one JSON object a line") { |file| json = file }
  options.on("--quick", "few rounds: shows that it runs, not how fast") { quick = true }
end.parse(ARGV)
unknown = names - known
abort "no such benchmark: #{unknown.join(', ')}; there are #{known.join(', ')}" unless unknown.empty?

lines = Tempfile.create("bench")
failed = (names.empty? ? known : names).reject do |name|
  puts "#{name}"
  environment = { "BENCH_JSON" => lines.path, "BENCH_QUICK" => (quick ? "1" : nil) }
  system(environment, RbConfig.ruby, File.join(folder, "#{name}.rb")).tap { puts }
end
results = File.readlines(lines.path).map { |line| JSON.parse(line) }
File.unlink(lines.path)
File.write(json, results.map { |result| "#{JSON.generate(result)}\n" }.join) if json
judged = results.reject { |result| result["met"].nil? }
puts "#{judged.count { |result| result['met'] }} of #{judged.size} goals met"
abort "these did not run to their end: #{failed.join(', ')}" unless failed.empty?
