# frozen_string_literal: true

require "etc"
require_relative "clock"

module Demo
  # How many cores some processes have had over a stretch: on a machine that is busy with other things, fewer than it
  # has.
  class Cpu
    TICKS = Etc.sysconf(Etc::SC_CLK_TCK).to_f

    # @param pids [Array<Integer>]
    def begin(pids)
      @pids = pids
      @from = [Clock.now, used]
    end

    def begun?
      !@from.nil?
    end

    def finish
      @to ||= [Clock.now, used] if begun?
    end

    # @return [Float, nil]
    def cores
      (@to[1] - @from[1]) / (@to[0] - @from[0]) if @to && @to[0] > @from[0]
    end

    private

    # Seconds of all threads, in user mode and in the kernel.
    def used
      @pids.sum do |pid|
        # The name, in brackets, may hold spaces.
        File.read("/proc/#{pid}/stat").rpartition(")").last.split.values_at(11, 12).sum(&:to_i) / TICKS
      rescue Errno::ENOENT, Errno::ESRCH
        0
      end
    end
  end
end
