# frozen_string_literal: true

# Where the gem's own lines go.
module SwarmNative
  class << self
    # A Ruby Logger, `Logger.new($stderr)` by default; nil says nothing.
    #
    # @example
    #   SwarmNative.logger = Rails.logger
    # @return [Logger, nil]
    attr_writer :logger

    # @return [Logger, nil]
    def logger
      return @logger if defined?(@logger)

      @logger = default_logger
    end

    private

    # From Ruby 4.0 on logger is a gem like others, which an app may lack.
    def default_logger
      require "logger"
      Logger.new($stderr, progname: "swarm")
    rescue LoadError
      warn "swarm_native logs nothing: add `gem \"logger\"` to the Gemfile, or set SwarmNative.logger"
      nil
    end
  end
end
