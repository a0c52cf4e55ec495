# frozen_string_literal: true

module Demo
  # Seconds on a clock that all processes of this machine share and nobody sets.
  module Clock
    def self.now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
