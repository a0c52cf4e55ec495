# frozen_string_literal: true

module SwarmNative
  module ForkGuard
    # What a refusal says, and to whom.
    module Refusal
      # What the frames of a fork are called, above the one that asked for it.
      FORKS = %w[_fork fork popen daemon].freeze

      @warned = {}
      private_constant :FORKS

      class << self
        # @param handles [Array<LiveHandle>]
        # @return [ForkRefused]
        def of(handles)
          texts = handles.map(&:to_s)
          one = texts.one?
          ForkRefused.new(
            "fork refused: #{one ? '1 librdkafka handle is' : "#{texts.size} librdkafka handles are"} live: " \
            "#{texts.join('; ')}. librdkafka does not survive a fork: a child that inherits #{one ? 'it' : 'them'} " \
            "crashes, hangs or loses messages without a word. Close #{one ? 'it' : 'them'} before you fork and open " \
            "anew afterwards, in the parent and in the child. Where the child only execs, fork inside " \
            "SwarmNative::ForkGuard.bypass { }.",
            texts
          )
        end

        # Warns of the fork that is about to happen, once for each place that forks.
        # @param refusal [ForkRefused]
        def warn_once(refusal)
          place = fork_place
          return if @warned[place]

          @warned[place] = true
          text = "#{refusal.message.sub('fork refused:', 'unsafe fork:')} (forked at #{place})"
          logger = SwarmNative.logger if SwarmNative.respond_to?(:logger)
          logger ? logger.warn(text) : Kernel.warn(text)
        end

        private

        # The line that forks, whatever hooks of `_fork` stand between.
        def fork_place
          frames = caller_locations(1)
          hook = frames.rindex { |frame| FORKS.include?(frame.base_label) }
          # A method written in C has the line of its caller.
          frame = frames[hook ? [hook, frames.size - 1].min : 0]
          "#{frame.path}:#{frame.lineno}"
        end
      end
    end
    private_constant :Refusal
  end
end
