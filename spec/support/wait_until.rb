# frozen_string_literal: true

# Waiting for a condition: in examples and, at the top level, in the code that `run_ruby` runs.
module WaitUntil
  # A deadline says "hangs", not "is slow": a machine has other work as well, and under GC.stress everything takes longer.
  STRETCH = ENV["SPEC_GC_STRESS"] ? 12 : 3

  class Expired < StandardError; end

  module_function

  # @param deadline [Numeric] seconds
  # @param what [String] named by the error
  # @return what the block gave, as soon as that is true
  # @raise [Expired] when it was not true in time
  def wait_until(deadline = 10, what = "the condition")
    due = Process.clock_gettime(Process::CLOCK_MONOTONIC) + (deadline * STRETCH)
    loop do
      value = yield
      return value if value

      if Process.clock_gettime(Process::CLOCK_MONOTONIC) > due
        raise Expired, "#{what} did not come about within #{deadline * STRETCH} s"
      end
      sleep 0.002
    end
  end
end
