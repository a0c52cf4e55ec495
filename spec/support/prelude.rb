# frozen_string_literal: true

# Runs before the code of `run_ruby`, in the new process: says where every thread stands when the runner asks, and puts
# `wait_until` at the code's disposal.

require_relative "wait_until"

# Whoever started the suite by nohup meant the suite: examples send this signal.
trap("HUP", "DEFAULT")

scratch = ENV.fetch("SPEC_SCRATCH")

# A real-time signal, because specs have a use for those with a name. Nodes that are forked inherit the answer.
trap(Integer(ENV.fetch("SPEC_BACKTRACE_SIGNAL"))) do
  threads = Thread.list.map do |thread|
    ["  #{thread.inspect}#{' (main)' if thread == Thread.main}", *thread.backtrace&.map { |line| "    #{line}" }]
  end
  part = File.join(scratch, "backtraces.#{Process.pid}.part")
  File.write(part, "#{threads.join("\n")}\n")
  File.rename(part, part.delete_suffix(".part"))
end

include WaitUntil

library = ENV.delete("SPEC_REQUIRE")
require library if library
GC.stress = true if ENV["SPEC_GC_STRESS"]
