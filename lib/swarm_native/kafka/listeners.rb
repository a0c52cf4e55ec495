# frozen_string_literal: true

require_relative "tokens"

module SwarmNative
  module Kafka
    # What a {Consumer} tells of while it polls. Each block runs on the thread that polls (or closes), never beside it.
    # There is one block of each kind; a later one takes the place of the earlier.
    #
    # What a block raises comes out of the poll; a rebalance is answered all the same.
    module Listeners
      include Tokens

      WANTS = { assigned: 1, revoked: 1, lost: 1, error: 2, end: 4, statistics: 8, log: 16 }.freeze
      # Seconds that a poll which does not wait has for listeners: what they hear quickly does not keep a message from it.
      # Lines of the log are heard so long before it is the turn of messages again.
      HEARING = 0.005
      private_constant :WANTS, :HEARING

      # Partitions have come.
      # @yieldparam partitions [Hash{String => Array<Integer>}] with the eager protocol all that this member has, with
      #   the cooperative one those that are new
      # @return [self]
      def on_assigned(&block)
        listen(:assigned, block)
      end

      # Partitions are about to go: until the block has returned nobody else has them, so that work in flight can end
      # and be committed.
      # @yieldparam partitions [Hash{String => Array<Integer>}]
      # @return [self]
      def on_revoked(&block)
        listen(:revoked, block)
      end

      # Partitions are gone already, because this member was taken for dead: its commits are refused. Without this
      # block {#on_revoked} hears of it.
      # @yieldparam partitions [Hash{String => Array<Integer>}]
      # @return [self]
      def on_lost(&block)
        listen(:lost, block)
      end

      # An error that librdkafka repairs by itself, such as a broker that went away (others are raised by the poll); or a
      # commit that nobody waited for and that has failed, an automatic one or `commit(async: true)`: then
      # {Error#offsets} says what was to be committed. One that goes on failing is told at once, then every 30 s.
      #
      # A commit that fails because the group changes just now (`:rebalance_in_progress`, `:illegal_generation`,
      # `:stale_member_epoch`, `:unknown_member_id`) is not told to a member of the group: it commits again with the next
      # commit what is still its own, and hears by {#on_revoked} or {#on_lost} what is not.
      # @yieldparam error [Kafka::Error]
      # @return [self]
      def on_error(&block)
        listen(:error, block)
      end

      # All messages of a partition have been handed out. Needs `"enable.partition.eof": true`.
      # @yieldparam topic [String]
      # @yieldparam partition [Integer]
      # @yieldparam offset [Integer] of the next message
      # @return [self]
      def on_end(&block)
        listen(:end, block)
      end

      # Needs a `statistics.interval.ms`. Where they come faster than the block hears them, only the newest are kept.
      # @yieldparam statistics [Hash{String => Object}] librdkafka's own, and `"skipped"`: how many were passed over since
      #   the last ones (an Integer)
      # @return [self]
      def on_statistics(&block)
        require "json"
        listen(:statistics, block)
      end

      # A line of librdkafka's log, at the poll that comes next, or within 0.3 s. The newest thousand wait; where
      # older ones were lost, a line of the facility "LOST" says how many.
      # @yieldparam severity [Symbol] `:error`, `:warn`, `:info` or `:debug`
      # @yieldparam facility [String] such as "FAIL"
      # @yieldparam line [String]
      # @return [self]
      def on_log(&block)
        listen(:log, block)
      end

      private

      def listen(kind, block)
        raise ArgumentError, "on_#{kind} needs a block" unless block

        (@listeners ||= {})[kind] = block
        listen_again
        self
      end

      def listen_again
        native_listen(@listeners.keys.map { |known| WANTS.fetch(known) }.inject(:|)) if @listeners
      end

      def listens_to_rebalances?
        @listeners && (@listeners.keys & %i[assigned revoked lost]).any?
      end

      # @param told [Array] the kind, then what is to be told
      def hear(told)
        kind, *about = told
        case kind
        when :assigned, :revoked then rebalance(@listeners[kind], about)
        when :lost then rebalance(@listeners[:lost] || @listeners[:revoked], about)
        when :statistics then @listeners[kind].call(JSON.parse(about[0]).merge("skipped" => about[1]))
        when :log then hear_lines(@listeners[kind])
        when :token then fetch_token(about[0])
        else @listeners[kind]&.call(*about)
        end
      end

      def hear_lines(block)
        enough = now + HEARING
        while (line = native_line)
          block.call(*line)
          break if now >= enough
        end
      end

      def rebalance(block, about)
        block&.call(*about)
      ensure
        # The group waits for this, whatever the block has done; a closed consumer has answered.
        begin
          native_acknowledge
        rescue ClosedHandle
          nil
        end
      end
    end
  end
end
