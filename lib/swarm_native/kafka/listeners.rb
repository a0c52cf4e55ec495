# frozen_string_literal: true

module SwarmNative
  module Kafka
    # What a {Consumer} tells of while it polls. Each block runs on the thread that polls (or closes), never beside it.
    # There is one block of each kind; a later one takes the place of the earlier.
    #
    # What a block raises comes out of the poll; a rebalance is answered all the same.
    module Listeners
      WANTS = { assigned: 1, revoked: 1, lost: 1, error: 2, end: 4, statistics: 8 }.freeze
      private_constant :WANTS

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

      # An error that librdkafka repairs by itself, such as a broker that went away. Others are raised by the poll.
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

      # Needs a `statistics.interval.ms`.
      # @yieldparam statistics [Hash{String => Object}] librdkafka's own
      # @return [self]
      def on_statistics(&block)
        require "json"
        listen(:statistics, block)
      end

      private

      def listen(kind, block)
        raise ArgumentError, "on_#{kind} needs a block" unless block

        (@listeners ||= {})[kind] = block
        native_listen(@listeners.keys.map { |known| WANTS.fetch(known) }.inject(:|))
        self
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
        when :statistics then @listeners[kind].call(JSON.parse(about[0]))
        when :token then fetch_token(about[0])
        else @listeners[kind]&.call(*about)
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

      def fetch_token(config)
        token = @token.call(config)
        extensions = token.fetch(:extensions, nil).to_h.flat_map { |name, value| [name.to_s, value.to_s] }
        expires_at = (token.fetch(:expires_at).to_r * 1000).to_i
        native_set_token(token.fetch(:token), expires_at, token.fetch(:principal), extensions)
      rescue StandardError => e
        raise if e.is_a?(ClosedHandle)

        native_refuse_token("#{e.message} (#{e.class})")
      end
    end
  end
end
