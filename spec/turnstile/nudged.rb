# frozen_string_literal: true

# Ruby processes whose threads are asked to hand the GVL over all the time.
module Nudged
  # Light threads that want to pass all the time, and busy ones that have the GVL.
  PRELUDE = <<~RUBY
    require "swarm_native/turnstile"
    Turnstile = SwarmNative::Turnstile

    # A piece of work that a nudge can interrupt.
    def spin = 200.times { |at| at * at }

    def nudge_all_the_time(busy)
      Turnstile.enable(budget: 1, light: 0.000_1, nudge_interval: 0.000_05)
      abort Turnstile.explain unless Turnstile.mode == :all
      2.times { Thread.new { loop { sleep 0.000_3 } } }
      busy.times { Thread.new { loop { spin } } }
    end

    at_exit do
      # The test would be worth nothing without them.
      abort "only \#{Turnstile.stats.nudges} nudges" if $expected_nudges && Turnstile.stats.nudges < $expected_nudges
    end
  RUBY

  def self.possible?
    RUBY_VERSION >= "3.3"
  end

  # Runs the code beside busy threads, and fails where few nudges came.
  def run_nudged(code, busy: 2, nudges: 100, deadline: 90, **options)
    run_ruby("#{PRELUDE}$expected_nudges = #{nudges}\nnudge_all_the_time(#{busy})\n#{code}", deadline: deadline, **options)
  end
end
