# frozen_string_literal: true

require_relative "errors"
require_relative "library"
require_relative "turnstile/queue"
require_relative "turnstile/stats"

module SwarmNative
  # A thread that has waited for I/O gets the VM back in a tenth of a millisecond, also beside threads that burn CPU.
  #
  # Ruby's threads queue for the GVL, and one that burns CPU keeps it for 100 ms at a time. With the turnstile on,
  # whoever has used little of the GVL since its last wait is *light* and is let through at once; those that use much are
  # *heavy* and go on a step later. What it may cost is bounded by a budget.
  #
  # Nothing that Ruby code can see changes but time, and {Thread#status} and {Thread#stop?} of a heavy thread that steps
  # aside: for that moment they say "sleep" and true.
  #
  # On Ruby 3.1 and 3.2 the VM does not tell enough of its threads; there only the waits of this gem ask for the GVL
  # ({.mode} is `:own`).
  #
  # @example
  #   require "swarm_native/turnstile"
  #   SwarmNative::Turnstile.enable
  #   puts SwarmNative::Turnstile.explain
  module Turnstile
    CLASSES = { auto: 0, light: 1, heavy: 2 }.freeze
    private_constant :CLASSES

    # A tenth: what light threads use is theirs.
    KEEP = 0.1
    private_constant :KEEP

    OFF = "off: Turnstile.enable was not called"
    private_constant :OFF

    @settings = nil
    @reason = OFF
    @paused = false
    @pauses = 0
    @forks = 0
    @resumes = false

    class << self
      # Switches it on. Where it is on already with the same settings, this does nothing; with others, it takes these.
      #
      # It stays off, without an error, where this Ruby does not allow it: {.explain} says why.
      #
      # @param budget [Numeric] the share of the time that handing over the GVL may cost, above 0 and at most 1. Past it
      #   light threads wait longer, at worst as long as without a turnstile
      # @param light [Numeric] seconds: a thread that has used less of the GVL since it last waited is let through
      # @param nudge_interval [Numeric] seconds until a thread is asked again to hand over
      # @param keep [Numeric] the share of the time, from 0 to 0.99, that heavy threads keep where light ones want all of it
      # @return [Symbol] {.mode}
      # @raise [ArgumentError, TypeError] for a value that cannot be
      def enable(budget: 0.1, light: 0.002, nudge_interval: 0.000_05, keep: KEEP)
        settings = { budget: budget, light: light, nudge_interval: nudge_interval, keep: keep }
                   .map { |name, value| number(name, value) }.freeze
        native_check(*settings)
        return mode if native_on? && settings == @settings

        @settings = settings
        start(false)
        mode
      end

      # Switches it off. Threads that have stepped aside go on.
      # @return [nil]
      def disable
        native_stop
        @paused = false
        @settings = nil
        @reason = "off: Turnstile.disable was called"
        nil
      end

      # @return [Boolean] whether it is on in this process
      def enabled?
        native_on?
      end

      # @return [Symbol] `:all`: it knows of all threads; `:own`: only the waits of this gem ask for the GVL; `:off`
      def mode
        return :off unless native_on?

        native_sees_all? ? :all : :own
      end

      # @return [String] the mode, and the reason for it
      def explain
        case mode
        when :all then "all: on for all threads (#{settings_in_words})"
        when :own
          "own: only the waits of swarm_native ask for the GVL (#{settings_in_words}), because Ruby #{RUBY_VERSION} " \
          "does not tell of other threads' waits; Ruby 3.3 and newer do"
        else @reason
        end
      end

      # Since it was switched on, or of the last time that it was.
      # @return [Stats]
      def stats
        Stats.new(**native_counts)
      end

      # @yield what is measured, in all threads
      # @return [Stats] of the time that the block took
      # @raise [Error] unless it is on before and after the block
      def measure
        before = running_stats
        yield
        running_stats.since(before)
      end

      # The thread is let through whatever it uses, and never asked to hand over.
      #
      # These three stay in force while the turnstile is off. In the mode `:own` they have no effect.
      # @param thread [Thread] a living one
      # @return [Thread]
      # @raise [ArgumentError] when it has ended
      def light!(thread)
        classify(thread, :light)
      end

      # The thread counts among those that burn CPU whatever it uses.
      # @param (see .light!)
      # @return (see .light!)
      # @raise (see .light!)
      def heavy!(thread)
        classify(thread, :heavy)
      end

      # The thread is light or heavy by what it uses, as all are that nothing was said about.
      # @param (see .light!)
      # @return (see .light!)
      # @raise (see .light!)
      def auto!(thread)
        classify(thread, :auto)
      end

      private

      def start(carry_on)
        @paused = @pauses.positive?
        @reason = @paused ? PAUSED : obstacle
        @reason ||= native_start(*@settings, carry_on)
        native_stop if @reason
        @resumes = @reason.nil?
        @reason &&= "off: #{@reason}"
      end

      # Why it must not be on, or nil.
      def obstacle
        if RUBY_DESCRIPTION.include?("+MN") || ENV["RUBY_MN_THREADS"].to_i.positive?
          "Ruby runs its threads on shared native ones (RUBY_MN_THREADS), which the turnstile cannot park"
        elsif Ractor.count > 1
          RACTORS
        end
      end

      RACTORS = "another Ractor than the main one runs, and the VM tells of the threads of all as if they shared a GVL"
      private_constant :RACTORS

      # Called when a Ractor is about to be made.
      def ractor_comes
        return unless native_on?

        native_stop
        @reason = "off: #{RACTORS}"
      end

      # No native thread of ours runs while the process forks: a lock that it holds would stay locked in the child.
      def around_fork
        # Others may be about to fork as well, and have stopped it.
        @resumes = native_on? || (@forks.positive? && @resumes)
        @forks += 1
        native_stop if native_on?
        parent = Process.pid
        begin
          yield
        ensure
          after_fork(Process.pid != parent)
        end
      end

      def after_fork(child)
        @forks = child ? 0 : @forks - 1
        @pauses = 0 if child
        # Somebody may have switched it off, or on with other settings.
        return if @settings.nil? || native_on?

        start(true) if @forks.zero? && (@resumes || (child && @paused))
      end

      PAUSED = "paused while this process runs a supervisor, whose nodes have it on"
      private_constant :PAUSED

      # Runs a block with it off, but for the children that are forked meanwhile: a supervisor has no thread of ours.
      def paused
        @pauses += 1
        start(true) if native_on?
        yield
      ensure
        # In a child that leaves the block, it went on at the fork.
        if @pauses.positive?
          @pauses -= 1
          start(true) if @paused && @settings
        end
      end

      def running_stats
        raise Error, "Turnstile.measure needs it on; it is #{explain}" unless native_on?

        stats
      end

      def settings_in_words
        words = format("budget %g, light %g s, nudge_interval %g s", *@settings)
        @settings.last == KEEP ? words : format("%s, keep %g", words, @settings.last)
      end

      def number(name, value)
        return value.to_f if value.is_a?(Numeric) && value.real?

        raise TypeError, "#{name} must be a number, got #{value.inspect} (#{value.class})"
      end

      def classify(thread, name)
        raise TypeError, "expected a Thread, got #{thread.inspect} (#{thread.class})" unless thread.is_a?(Thread)
        raise ArgumentError, "#{thread.inspect} has ended" unless thread.alive?

        native_set_class(thread, CLASSES.fetch(name))
        thread
      end
    end

    # @private
    module ForkHook
      def _fork
        return super unless Ractor.current.equal?(Ractor.main)

        Turnstile.send(:around_fork) { super }
      end

      def daemon(...)
        Turnstile.send(:around_fork) { super }
      end
    end

    # @private
    module RactorHook
      def new(...)
        Turnstile.send(:ractor_comes) if Ractor.current.equal?(Ractor.main)
        super
      end
    end

    Process.singleton_class.prepend(ForkHook)
    Ractor.singleton_class.prepend(RactorHook)
  end
end
