# frozen_string_literal: true

# What loading the gem costs a process in memory (PSS, the pages that it shares counted by its part), over the same Ruby
# process without it: as installed, where OpenSSL is loaded already as in any app that speaks TLS and where it is not,
# and as a build without Kafka. RubyGems' own work, which is done once for all gems of an app, is left out.

require "fileutils"
require_relative "support"

# KiB. Nobody else maps the library while this is measured, so the process bears it alone.
def self.footprint(*options)
  process = Bench.ruby("3.times { GC.start }\nputs 'ready'\n$stdin.read", *options)
  Bench.line(process)
  File.read("/proc/#{process.pid}/smaps_rollup")[/^Pss:\s*(\d+)/, 1].to_f
ensure
  process&.close
end

# The library of a build without the feature `kafka`, in a folder for the load path. It has a target folder of its own:
# the one of the installed gem would be built anew each time.
def self.without_kafka
  target = File.join(Bench::ROOT, "tmp", "bench", "target")
  system("cargo", "build", "--quiet", "--release", "-p", "swarm_native", "--no-default-features",
         "--target-dir", target, chdir: Bench::ROOT) or raise "the build without Kafka failed"
  File.join(Bench::ROOT, "tmp", "bench", "without_kafka").tap do |folder|
    FileUtils.mkdir_p(File.join(folder, "swarm_native"))
    FileUtils.cp(File.join(target, "release", "libswarm_native.so"), File.join(folder, "swarm_native", "swarm_native.so"))
  end
end

def self.compare(name, options, goal)
  options += ["-I", Gem::Specification.find_by_name("karafka_swarm").full_require_paths.join(":")]
  bare = []
  loaded = []
  Bench.times(15, 2).times do
    bare << footprint(*options)
    loaded << footprint(*options, "-rswarm_native")
  end
  bare, loaded = [bare, loaded].map { |samples| Bench.percentile(samples, 50) / 1024 }
  Bench.report("footprint #{name}", "MiB", loaded - bare, { "the bare Ruby process" => bare }, goal: goal)
end

compare("where openssl is loaded", ["-ropenssl"], 1.0)
compare("where openssl is not loaded", [], nil)
compare("of a build without kafka", ["-I", without_kafka], 0.5)
